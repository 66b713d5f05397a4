//go:build linux

package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"
)

var scenarios = map[string]func(*options, *report) error{
	"idle": idle, "fanout": fanout, "publish": publish, "replay": replay, "slow": slow, "storm": storm,
}

// meter reads server usage between two points.
type meter struct {
	pids        []int
	at          time.Time
	u, s, total float64
	tool        float64
}

func (o *options) meter() *meter {
	m := &meter{pids: tree(o.pids)}
	m.u, m.s, m.total = cpuOf(m.pids)
	m.tool, m.at = selfCPU(), time.Now()
	return m
}

// since gives the time and the CPU seconds since the meter was made. The sum
// of user and sys is exact; how it splits is known in clock ticks only.
func (m *meter) since() (wall, user, sys, tool float64) {
	wall = time.Since(m.at).Seconds()
	u, s, total := cpuOf(m.pids)
	u, s, total = u-m.u, s-m.s, total-m.total
	if u+s > 0 {
		u, s = total*u/(u+s), total*s/(u+s)
	} else {
		s = total
	}
	return wall, u, s, selfCPU() - m.tool
}

// connectAll opens the fleet and fills the connect part of the report.
func connectAll(o *options, rep *report, spare int) (*fleet, error) {
	f, err := newFleet(o, o.n+spare)
	if err != nil {
		return nil, err
	}
	base, k0, m := usageOf(tree(o.pids)), kernelMem(), o.meter()
	err = f.open(o.n-o.stallCount(rep), false)
	if err == nil && o.stallCount(rep) > 0 {
		err = f.open(o.stallCount(rep), true)
	}
	rep.ConnectS = time.Since(m.at).Seconds()
	_, u, s, _ := m.since()
	rep.Ready, rep.Failed = f.ready(), f.failed()
	rep.ConnCPUus = (u + s) * 1e6 / float64(max(1, rep.Ready))
	if err != nil {
		f.stop()
		return nil, err
	}
	time.Sleep(o.settle)
	if len(o.pids) > 0 {
		now := usageOf(tree(o.pids))
		rep.RSSBase, rep.RSSConn, rep.Threads = base.rss, now.rss, now.threads
		rep.RSSPerSub = float64(now.rss-base.rss) / float64(max(1, o.n))
	}
	rep.KernPer = float64(kernelMem()-k0) / float64(max(1, o.n))
	return f, nil
}

func (o *options) stallCount(rep *report) int {
	if rep.Scenario == "slow" {
		return o.stall
	}
	return 0
}

// finish stops the fleet and reads its private counters.
func finish(o *options, f *fleet, rep *report) {
	if len(o.pids) > 0 {
		rep.RSSEnd = usageOf(tree(o.pids)).rss
	}
	rep.Closed, rep.Failed = f.closed(), f.failed()
	f.stop()
	lat, conn := f.hists()
	rep.Latency, rep.Connect = lat.summary(), conn.summary()
	rep.Clock = "tool"
	if o.kts && f.web == nil {
		rep.Clock = "kernel-rx"
	}
	for _, r := range f.rs {
		for i := range r.used {
			rep.Gaps += uint64(r.subs[i].gaps)
			rep.Backs += uint64(r.subs[i].backs)
		}
		for st, n := range r.badStatus {
			rep.extra(fmt.Sprintf("subscribe_status_%d", st), n)
		}
	}
}

func idle(o *options, rep *report) error {
	f, err := connectAll(o, rep, 0)
	if err != nil {
		return err
	}
	m := o.meter()
	time.Sleep(o.duration)
	w, u, s, _ := m.since()
	rep.IdleCPU = (u + s) / w * 100
	finish(o, f, rep)
	return nil
}

// expectedPer gives how many subscribers topic t has.
func (o *options) expectedPer(n, t int) uint64 {
	k := n / o.topics
	if t < n%o.topics {
		k++
	}
	return uint64(k)
}

// driveOpen publishes o.rate events per second over all publishers, each its
// own connection, so that one slow answer does not hold up the schedule. It
// returns the deliveries that must result.
func driveOpen(o *options, ps []*publisher, d time.Duration, listeners int) (want uint64, err error) {
	work := make(chan int, 4096)
	errs := make(chan error, len(ps))
	for _, p := range ps {
		go func() {
			var err error
			for t := range work {
				if err == nil {
					err = p.publish(t)
				}
			}
			if err == nil {
				err = p.flush()
			}
			errs <- err
		}()
	}
	start := time.Now()
	for k := 0; time.Since(start) < d && (o.maxEvents == 0 || k < o.maxEvents); k++ {
		// Sleep is too coarse for high rates; several events may go out in
		// one burst, each stamped when it is sent.
		if w := time.Until(start.Add(time.Duration(float64(k) / o.rate * 1e9))); w > 0 {
			time.Sleep(w)
		}
		work <- k % o.topics
		want += o.expectedPer(listeners, k%o.topics)
	}
	close(work)
	for range ps {
		if e := <-errs; e != nil {
			err = fmt.Errorf("publish: %w", e)
		}
	}
	return want, err
}

// drive publishes for d, in an open loop (-rate) or from one publisher in a
// closed loop (-window). listeners is how many subscribers read.
func drive(o *options, f *fleet, ps []*publisher, d time.Duration, listeners int) (want uint64, err error) {
	if o.rate > 0 {
		return driveOpen(o, ps, d, listeners)
	}
	p := ps[0]
	end := time.Now().Add(d)
	base := f.total.Load()
	ring := make([]uint64, max(1, o.window)) // deliveries due after the k-th event
	for k := 0; time.Now().Before(end) && (o.maxEvents == 0 || k < o.maxEvents); k++ {
		if k >= len(ring) {
			if !f.waitFor(base+ring[k%len(ring)], 5*time.Second) {
				return want, fmt.Errorf("stuck: %d of %d deliveries after 5 s", f.total.Load()-base, ring[k%len(ring)])
			}
		}
		t := k % o.topics
		if err := p.publish(t); err != nil {
			return want, fmt.Errorf("publish: %w", err)
		}
		want += o.expectedPer(listeners, t)
		ring[k%len(ring)] = want
	}
	return want, p.flush()
}

// measureFanout warms up, publishes for o.duration, drains, and fills rep.
func measureFanout(o *options, f *fleet, rep *report, listeners int) error {
	var ps []*publisher
	for i := range o.publishers {
		p, err := newPublisher(i, o)
		if err != nil {
			return err
		}
		defer p.c.Close()
		ps = append(ps, p)
	}
	if o.warmup > 0 {
		base := f.total.Load()
		want, err := drive(o, f, ps, o.warmup, listeners)
		if err != nil {
			return err
		}
		if !f.waitFor(base+want, o.timeout) {
			return fmt.Errorf("warm-up: %d of %d delivered", f.total.Load()-base, want)
		}
	}
	f.record()
	for _, p := range ps {
		rep.warm += p.sent
		p.lat, p.sent, p.ok, p.bad = hist{}, 0, 0, map[int]uint64{}
	}
	base, b0, m := f.total.Load(), f.bytes(), o.meter()
	want, err := drive(o, f, ps, o.duration, listeners)
	f.waitFor(base+want, min(o.timeout, 5*time.Second))
	w, u, s, tool := m.since()
	got := f.total.Load() - base
	rep.MeasuredS, rep.ServerUser, rep.ServerSys, rep.ServerCPU = w, u, s, u+s
	rep.addPublishers(ps)
	rep.PubRate = float64(rep.Published) / w
	rep.Expected, rep.Delivered, rep.Lost = want, got, int64(want)-int64(got)
	rep.DelivRate, rep.MBps = float64(got)/w, float64(f.bytes()-b0)/w/1e6
	if got > 0 {
		rep.CPUPerM, rep.ToolPerM = (u+s)*1e6/float64(got), tool*1e6/float64(got)
	}
	return err
}

// addPublishers sums the publishers' counters into the report.
func (rep *report) addPublishers(ps []*publisher) {
	lat := new(hist)
	rep.Rejected = map[int]uint64{}
	for _, p := range ps {
		lat.merge(&p.lat)
		rep.Published += p.sent
		rep.Accepted += p.ok
		for k, v := range p.bad {
			rep.Rejected[k] += v
		}
	}
	rep.Publish = lat.summary()
}

func fanout(o *options, rep *report) error {
	f, err := connectAll(o, rep, 0)
	if err != nil {
		return err
	}
	err = measureFanout(o, f, rep, o.n)
	finish(o, f, rep)
	return err
}

// publish measures the accepting side: o.publishers connections, each sending
// as soon as it may (or o.rate in total).
func publish(o *options, rep *report) error {
	f, err := connectAll(o, rep, 0)
	if err != nil {
		return err
	}
	var ps []*publisher
	for i := range o.publishers {
		p, err := newPublisher(i, o)
		if err != nil {
			return err
		}
		ps = append(ps, p)
	}
	run := func(d time.Duration) error {
		errs := make([]error, len(ps))
		var wg sync.WaitGroup
		end := time.Now().Add(d)
		per := time.Duration(0)
		if o.rate > 0 {
			per = time.Duration(float64(len(ps)) / o.rate * 1e9)
		}
		for i, p := range ps {
			wg.Go(func() {
				next := time.Now()
				for k := i; time.Now().Before(end); k++ {
					if per > 0 {
						time.Sleep(time.Until(next))
						next = next.Add(per)
					}
					if errs[i] = p.publish(k % o.topics); errs[i] != nil {
						return
					}
				}
				errs[i] = p.flush()
			})
		}
		wg.Wait()
		for _, e := range errs {
			if e != nil {
				return e
			}
		}
		return nil
	}
	if err := run(o.warmup); err != nil {
		return err
	}
	time.Sleep(200 * time.Millisecond)
	f.record()
	for _, p := range ps {
		p.lat, p.sent, p.ok, p.bad = hist{}, 0, 0, map[int]uint64{}
	}
	base, m := f.total.Load(), o.meter()
	err = run(o.duration)
	w, u, s, _ := m.since()
	rep.addPublishers(ps)
	for _, p := range ps {
		p.c.Close()
	}
	if o.n > 0 && o.topics == 1 {
		rep.Expected = rep.Accepted * uint64(o.n)
		f.waitFor(base+rep.Expected, min(o.timeout, 5*time.Second))
		rep.Delivered = f.total.Load() - base
		rep.Lost = int64(rep.Expected) - int64(rep.Delivered)
		rep.DelivRate = float64(rep.Delivered) / w
	}
	rep.extra("publishers", o.publishers)
	rep.MeasuredS, rep.ServerUser, rep.ServerSys, rep.ServerCPU = w, u, s, u+s
	rep.PubRate = float64(rep.Accepted) / w
	rep.CPUPerPub = (u + s) * 1e6 / float64(max(1, rep.Accepted))
	finish(o, f, rep)
	return err
}

// replay stores a history, unless it is there (-stored), and then lets o.n
// subscribers ask for everything after its first event.
func replay(o *options, rep *report) error {
	f, err := newFleet(o, o.n+2)
	if err != nil {
		return err
	}
	o.topics = 1
	last := o.vars["last_id"]
	if !o.stored {
		if last, err = storeHistory(o, f); err != nil {
			return err
		}
	}
	if last == "" {
		return fmt.Errorf("no id: line was seen; -var last_id=VALUE names it")
	}
	time.Sleep(o.settle)

	rep.extra("last_id", last)
	rep.extra("history", o.history)
	base, probes := f.total.Load(), f.ready()
	want := uint64(o.n) * uint64(o.history)
	m, r0, b0, t0 := o.meter(), usageOf(tree(o.pids)).rss, f.bytes(), time.Now()
	for i := 0; i < o.n; i++ {
		for int64(f.opened)-f.ready()-f.failed() >= int64(o.inflight) {
			time.Sleep(50 * time.Microsecond)
			if time.Since(t0) > o.timeout {
				return fmt.Errorf("replay clients do not become ready: %d of %d", f.ready()-probes, o.n)
			}
		}
		if err := f.one(o.topicOf(0), last, nil, false, nil); err != nil {
			return err
		}
	}
	f.waitFor(base+want, o.timeout)
	w, u, s, tool := m.since()
	got := f.total.Load() - base
	rep.Ready = f.ready() - probes
	rep.MeasuredS, rep.ServerUser, rep.ServerSys, rep.ServerCPU = w, u, s, u+s
	rep.Expected, rep.Delivered, rep.Lost = want, got, int64(want)-int64(got)
	rep.DelivRate, rep.MBps = float64(got)/w, float64(f.bytes()-b0)/w/1e6
	if got > 0 {
		rep.CPUPerM, rep.ToolPerM = (u+s)*1e6/float64(got), tool*1e6/float64(got)
	}
	rep.RSSBase, rep.RSSConn = r0, usageOf(tree(o.pids)).rss
	rep.RSSPerSub = float64(rep.RSSConn-r0) / float64(o.n)
	finish(o, f, rep)
	first, full := new(hist), new(hist)
	short := 0
	for _, r := range f.rs {
		for i := range r.used {
			x := &r.subs[i]
			if x.onBody != nil {
				continue
			}
			if x.tFirst != 0 {
				first.add(x.tFirst - x.t0)
			}
			if x.events == uint64(o.history) {
				full.add(x.tLast - x.t0)
			} else {
				short++
			}
		}
	}
	rep.Latency = nil
	rep.extra("clients_without_exact_history", short)
	for k, h := range map[string]*hist{"first_event_after_connect": first, "whole_history_after_connect": full} {
		if q := h.summary(); q != nil {
			rep.extra(k+"_us", map[string]float64{"p50": q.P50, "p99": q.P99, "max": q.Max})
		}
	}
	return nil
}

// storeHistory publishes 1+history events while a probe looks on, and returns
// the id of the first: that of -var last_id, else the one that the probe saw, or
// "" if it saw none.
func storeHistory(o *options, f *fleet) (last string, err error) {
	var mu sync.Mutex
	var text bytes.Buffer
	if err := f.one(o.topicOf(0), "", nil, false, func(b []byte) {
		mu.Lock()
		if text.Len() < 64<<10 {
			text.Write(b)
		}
		mu.Unlock()
	}); err != nil {
		return "", err
	}
	for end := time.Now().Add(o.timeout); f.ready() < 1; time.Sleep(time.Millisecond) {
		if f.failed() > 0 || time.Now().After(end) {
			return "", fmt.Errorf("the probe subscriber did not become ready")
		}
	}
	p, err := newPublisher(0, o)
	if err != nil {
		return "", err
	}
	defer p.c.Close()
	send := func(n int) error {
		base := f.total.Load()
		for i := range n {
			if err := p.publish(0); err != nil {
				return err
			}
			if i%64 == 63 { // keep the probe up to date
				f.waitFor(base+uint64(i-32), 5*time.Second)
			}
		}
		if err := p.flush(); err != nil {
			return err
		}
		if !f.waitFor(base+uint64(n), 10*time.Second) {
			return fmt.Errorf("the probe got %d of %d events", f.total.Load()-base, n)
		}
		return nil
	}
	if err := send(1); err != nil {
		return "", err
	}
	last = o.vars["last_id"]
	if last == "" {
		mu.Lock()
		for l := range strings.SplitSeq(text.String(), "\n") {
			if v, ok := strings.CutPrefix(l, "id:"); ok {
				last = strings.TrimSpace(v)
			}
		}
		mu.Unlock()
	}
	if err := send(o.history); err != nil {
		return "", err
	}
	if p.ok != p.sent {
		return "", fmt.Errorf("publishes rejected: %v", p.bad)
	}
	return last, nil
}

// slow runs fanout while o.stall subscribers do not read at all.
func slow(o *options, rep *report) error {
	if o.stall < 1 || o.stall >= o.n {
		return fmt.Errorf("-stall must be between 1 and -n less one")
	}
	if o.topics != 1 {
		return fmt.Errorf("slow wants one topic")
	}
	if o.proto != "" && o.proto != "raw" {
		return fmt.Errorf("slow wants -proto raw")
	}
	f, err := connectAll(o, rep, 0)
	if err != nil {
		return err
	}
	err = measureFanout(o, f, rep, o.n-o.stall)
	if err != nil {
		f.stop()
		return err
	}
	grown := usageOf(tree(o.pids)).rss
	rep.extra("stalled", o.stall)
	rep.extra("rss_growth_while_stalled", grown-rep.RSSConn)
	// Now read again: what is left for the stalled ones, and were they cut?
	before, closed := f.total.Load(), f.closed()
	for _, r := range f.rs {
		r.resume.Store(true)
	}
	for last := before; ; {
		time.Sleep(500 * time.Millisecond)
		if t := f.total.Load(); t == last {
			break
		} else {
			last = t
		}
	}
	back := f.total.Load() - before
	due := uint64(o.stall) * (rep.warm + rep.Published)
	rep.extra("stalled_got_after_resume", back) // the warm-up's events too
	rep.extra("stalled_never_got", int64(due)-int64(back))
	rep.extra("stalled_cut_by_server", f.closed()-closed)
	finish(o, f, rep)
	return nil
}

// storm connects o.n subscribers at a rate, then drops them all, and looks how
// long the server needs to give the memory and the descriptors back.
func storm(o *options, rep *report) error {
	fds := usageOf(tree(o.pids)).fds
	f, err := connectAll(o, rep, 0)
	if err != nil {
		return err
	}
	rep.extra("connects_per_s", math.Round(float64(rep.Ready)/rep.ConnectS))
	m, t0 := o.meter(), time.Now()
	finish(o, f, rep)
	if len(o.pids) == 0 {
		return nil
	}
	for time.Since(t0) < o.timeout && usageOf(tree(o.pids)).fds > fds+2 {
		time.Sleep(5 * time.Millisecond)
	}
	rep.extra("all_gone_after_s", math.Round(time.Since(t0).Seconds()*1000)/1000) // the timeout if never
	time.Sleep(o.settle)
	_, u, s, _ := m.since()
	rep.extra("server_cpu_us_per_disconnect", math.Round((u+s)*1e7/float64(max(1, rep.Ready)))/10)
	rep.RSSEnd = usageOf(tree(o.pids)).rss
	return nil
}
