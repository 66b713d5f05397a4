package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDiskFull: on a full disk publishing is refused with 507 and reading goes
// on; with room again, so does publishing. Nothing acknowledged is lost, also
// when the server is killed meanwhile.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tailrace-test", dir, "tmpfs", 0, "size=320m"); err != nil {
		t.Skipf("needs a small file system, which only root can mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := newServer(t, "--log.min_free=192MiB")
	s.path, s.dir = plainBinary(t), filepath.Join(dir, "log")
	s.start()

	next := 0
	noise := make([]byte, 192<<10) // which cannot be compressed
	rand.NewChaCha8([32]byte{}).Read(noise)
	body := base64.StdEncoding.EncodeToString(noise)
	fill := func() (full bool) {
		resp, err := http.Post(s.url("/v1/topics/big"), "text/plain", strings.NewReader(fmt.Sprintf("%d %s", next, body)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
			next++
			return false
		case http.StatusInsufficientStorage:
			if problem := problemOf(t, resp); problem != "log-full" {
				t.Fatalf("507 is %q, want log-full", problem)
			}
			return true
		}
		t.Fatalf("event %d: %s %s", next, resp.Status, problemOf(t, resp))
		return true
	}
	readAll := func() {
		t.Helper()
		resp, err := http.Get(s.url("/v1/topics/big?from=start"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		behind, _ := readNumbers(t, resp.Body, 0, next-1)
		if behind < next {
			t.Fatalf("the stream ends before event %d of %d", behind, next)
		}
	}

	// First the reserve is touched,
	for !fill() {
		if next > 1500 {
			t.Fatal("a disk of 320 MiB takes 375 MiB")
		}
	}
	t.Logf("refused after %d events of 256 KiB", next)
	readAll()

	// then somebody else takes all that is left.
	other := filepath.Join(dir, "other")
	if err := hog(other); err != nil {
		t.Fatal(err)
	}
	if !fill() {
		t.Error("an event is stored on a disk that is full")
	}
	readAll()
	s.answers("/livez", http.StatusOK)
	s.answers("/readyz", http.StatusServiceUnavailable)
	s.kill()

	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	s.start()
	readAll()

	// With room again, publishing goes on by itself.
	if err := syscall.Mount("tailrace-test", dir, "tmpfs", syscall.MS_REMOUNT, "size=768m"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(startTime)
	for fill() {
		if time.Now().After(deadline) {
			t.Fatal("with room on the disk publishing is still refused")
		}
		time.Sleep(50 * time.Millisecond)
	}
	readAll()
	s.alive()
	s.stop()
}

// hog writes a file until the disk is full.
func hog(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for err == nil && len(block) > 0 {
		if _, err = f.Write(block); errors.Is(err, syscall.ENOSPC) {
			err, block = nil, block[:len(block)/2]
		}
	}
	return errors.Join(err, f.Close())
}
