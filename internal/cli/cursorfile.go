package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"
)

// saveEvery bounds what a killed sub prints a second time.
const saveEvery = 200 * time.Millisecond

// cursorFile keeps the id of the last event that was printed. It is replaced
// as a whole, after the event is out: a crash repeats events and skips none.
type cursorFile struct {
	path string
	id   string // when it was opened

	mu    sync.Mutex // guards what follows
	last  string
	saved string
	timer *time.Timer // runs while last is not saved
	err   error       // of a save by the timer
}

func openCursorFile(path string) (*cursorFile, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cursor file: %w", err)
	}
	id := strings.TrimSpace(string(text))
	if len(id) > 512 || strings.ContainsFunc(id, unicode.IsControl) {
		return nil, fmt.Errorf("cursor file: %s holds no cursor", path)
	}
	return &cursorFile{path: path, id: id, last: id, saved: id}, nil
}

// set takes the id of an event that is out, and returns the error of a save
// before.
func (c *cursorFile) set(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = id
	if c.last != c.saved && c.timer == nil {
		c.timer = time.AfterFunc(saveEvery, c.tick)
	}
	return c.err
}

func (c *cursorFile) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = nil
	c.save()
}

func (c *cursorFile) save() {
	if c.last == c.saved {
		return
	}
	if err := replaceFile(c.path, c.last+"\n"); err != nil {
		c.err = fmt.Errorf("cursor file: %w", err)
		return
	}
	c.saved = c.last
}

// close saves the last id.
func (c *cursorFile) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.save()
	return c.err
}

// replaceFile makes text the content of the file; who reads it sees the old
// one or the new one.
func replaceFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
