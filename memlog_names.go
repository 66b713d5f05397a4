package tailrace

import (
	"iter"
	"slices"
	"strings"
)

// memNames holds topics by name: a list of sorted blocks, so that adding one
// of a million moves a few kilobytes. The first name of each block is above
// all of the block before.
type memNames struct {
	blocks [][]*memTopic // none is empty
}

const memNamesBlock = 512

// find returns where name is, or would be added.
func (ns *memNames) find(name string) (block, at int, found bool) {
	byName := func(t *memTopic, name string) int { return strings.Compare(t.name, name) }
	block, found = slices.BinarySearchFunc(ns.blocks, name, func(b []*memTopic, name string) int { return byName(b[0], name) })
	if found {
		return block, 0, true
	}
	if block > 0 {
		block--
		at, found = slices.BinarySearchFunc(ns.blocks[block], name, byName)
	}
	return block, at, found
}

// add adds t, whose name is not there.
func (ns *memNames) add(t *memTopic) {
	if len(ns.blocks) == 0 {
		ns.blocks = [][]*memTopic{{t}}
		return
	}
	i, at, _ := ns.find(t.name)
	if b := ns.blocks[i]; len(b) == memNamesBlock {
		// Names are often created in order: then the full block is left full.
		cut := len(b) / 2
		if at == len(b) {
			cut = len(b)
		}
		right := append(make([]*memTopic, 0, memNamesBlock), b[cut:]...)
		ns.blocks[i] = slices.Delete(b, cut, len(b))
		if at >= cut {
			i, at = i+1, at-cut
			right = slices.Insert(right, at, t)
			ns.blocks = slices.Insert(ns.blocks, i, right)
			return
		}
		ns.blocks = slices.Insert(ns.blocks, i+1, right)
	}
	ns.blocks[i] = slices.Insert(ns.blocks[i], at, t)
}

func (ns *memNames) remove(t *memTopic) {
	i, at, found := ns.find(t.name)
	if !found {
		return
	}
	if ns.blocks[i] = slices.Delete(ns.blocks[i], at, at+1); len(ns.blocks[i]) == 0 {
		ns.blocks = slices.Delete(ns.blocks, i, i+1)
	}
}

// from returns the topics from name on.
func (ns *memNames) from(name string) iter.Seq[*memTopic] {
	return func(yield func(*memTopic) bool) {
		i, at, _ := ns.find(name)
		for ; i < len(ns.blocks); i, at = i+1, 0 {
			for _, t := range ns.blocks[i][at:] {
				if !yield(t) {
					return
				}
			}
		}
	}
}
