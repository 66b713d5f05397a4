package filter

import (
	"errors"
	"math"
)

// Budgets of one evaluation. Work is counted in about what it takes to look at
// a byte, so that a run that uses all of it takes some ten milliseconds, and
// the longest regular expression at its slowest some hundred.
const (
	workBudget   = 16 << 20
	memoryBudget = 1 << 20 // bytes that an expression may make

	stepWork    = 64 // one turn of a loop
	elementWork = 32 // one element of an array, one member of an object
	elementSize = 16 // bytes
)

var (
	errWork   = errors.New("filter: budget of work is used up")
	errMemory = errors.New("filter: budget of memory is used up")
)

// meter counts what one evaluation costs. Its methods are called from within
// the expression, where guard has put them.
type meter struct{ work, memory int }

// spend takes n units of work.
func (m *meter) spend(n int) error {
	if n > m.work {
		m.work = 0
		return errWork
	}
	m.work -= n
	return nil
}

// read pays for looking at all of v, as comparing, searching and converting
// do.
func (m *meter) read(v any) error {
	switch v := v.(type) {
	case string:
		return m.spend(len(v))
	case []any:
		if err := m.spend(elementWork * len(v)); err != nil {
			return err
		}
		for _, e := range v {
			if err := m.read(e); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, e := range v {
			if err := m.spend(elementWork + len(name)); err != nil {
				return err
			}
			if err := m.read(e); err != nil {
				return err
			}
		}
	case []string:
		for _, e := range v {
			if err := m.spend(elementWork + len(e)); err != nil {
				return err
			}
		}
	case []int:
		return m.spend(elementWork * len(v))
	case []float64:
		return m.spend(elementWork * len(v))
	}
	return nil
}

// hold pays for the memory of v, which has just been made.
func (m *meter) hold(v any) error {
	size := 0
	switch v := v.(type) {
	case string:
		size = len(v)
	case []any:
		size = elementSize * len(v)
	case []string:
		size = elementSize * len(v)
	}
	if size > m.memory {
		m.memory = 0
		return errMemory
	}
	m.memory -= size
	return nil
}

// match pays for running a regular expression of size instructions over v.
func (m *meter) match(v any, size int) error {
	s, ok := v.(string)
	if !ok {
		return nil // the operator will say what it thinks of that
	}
	if len(s) > math.MaxInt/size {
		return errWork
	}
	return m.spend(len(s) * size)
}
