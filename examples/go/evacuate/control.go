// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"migbuf.example/migbuf"
)

// Control is the loop around the library: measured sizes go into the buffer, its decisions go to the guests' throttles, and
// what became of them goes back. This is the part of a host to copy; it knows monitors and descriptors, but not how a VM is
// migrated.
type Control struct {
	buffer *migbuf.Buffer
	volume *os.File // any descriptor in it
	link   *Wire
	state  string // where the buffer's text is kept, for a process that starts anew

	mu        sync.Mutex // of a tick, and of all below
	members   map[uint64]*Member
	decisions []migbuf.Decision
	wire      migbuf.Link
	flow      migbuf.LinkFlow
	peak      uint64        // of the volume's used bytes
	decided   int           // decisions that there was something to do for
	pauses    int           // of them those that stop a guest
	refused   int32         // decisions that QEMU refused
	unknown   int32         // calls of which nobody knew what became
	slowest   time.Duration // from a tick until its last decision was in force or unknown
}

// Member is one VM under control.
type Member struct {
	id      uint64
	qemu    *QEMU
	disk    *migbuf.Disk
	overlay *os.File // ours, as it has no name; nil before it exists

	guest    sync.Mutex // who may stop the guest and let it run
	handsOff bool       // of guest: its migration does, we do not
	looked   time.Time  // when QEMU was last asked what is in force

	mu      sync.Mutex
	onTop   bool   // the overlay is in use: what the guest writes makes it grow
	gone    bool   // QEMU ends: nothing to set any more
	left    uint64 // base still to copy, or overlay still to send
	writes  uint64 // by QEMU's counters, as they were last seen
	written uint64 // the same, bytes
	taken   int    // how often another hand has changed the limits
}

const (
	linkID = 1 // everybody shares one link

	// A decision lands within lag, or the buffer hears by then that nobody knows. Whoever has longer time-outs than this
	// in his monitor need not care: the context ends the waiting.
	lag      = time.Second
	patience = lag * 3 / 4

	verify = time.Second // how often QEMU is asked whether another hand has changed the limits
)

func newControl(volume *os.File, link *Wire, interval time.Duration, policy migbuf.Policy, state string) (*Control, error) {
	v, err := migbuf.CowVolume(volume)
	if err != nil {
		return nil, err
	}
	o := migbuf.BufferOptions{Policy: policy, IntervalMs: uint32(interval.Milliseconds()), LagMs: uint32(lag.Milliseconds())}
	o.LateFactorPercent = 400 // a busy machine
	b, err := migbuf.NewBuffer(v.FreeBytes, &o)
	if err != nil {
		return nil, err
	}
	return &Control{buffer: b, volume: volume, link: link, state: state, members: map[uint64]*Member{}}, nil
}

// Loop ticks until the context ends.
func (c *Control) Loop(ctx context.Context, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := c.Tick(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// Tick measures everybody, decides, and waits until the decisions are carried out. Where more may be in force than was
// decided, the others have to make room at once.
func (c *Control) Tick(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	again, err := c.tick(ctx)
	if again && err == nil {
		_, err = c.tick(ctx)
	}
	return err
}

func (c *Control) tick(ctx context.Context) (again bool, err error) {
	if err = c.measure(ctx); err != nil {
		return false, err
	}
	now := migbuf.Clock()
	if c.decisions, err = c.buffer.Tick(now, c.decisions); err != nil {
		return false, err
	}
	if err = c.keep(); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var wait sync.WaitGroup
	var tickNow int32
	for _, d := range c.decisions {
		c.count(d)
		wait.Add(1)
		go func(m *Member, d migbuf.Decision) {
			defer wait.Done()
			if c.carryOut(ctx, m, d) {
				atomic.StoreInt32(&tickNow, 1)
			}
		}(c.members[d.ID], d)
	}
	wait.Wait()
	if took := migbuf.Clock() - now; took > c.slowest {
		c.slowest = took
	}
	return tickNow != 0, nil
}

// keep writes the buffer down before its decisions are carried out. The old text stays until the new one is whole.
func (c *Control) keep() error {
	text, err := c.buffer.Save()
	if err != nil {
		return err
	}
	return writeWhole(c.state, text)
}

func writeWhole(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (c *Control) count(d migbuf.Decision) {
	if d.Action.Acts() {
		c.decided++
	}
	if d.Action.Stops() {
		say("vm%d is paused: %v", d.ID, d.Reason)
		c.pauses++
	}
}

// carryOut does what was decided, and tells the buffer what became of it. It returns true when the others have to make room
// at once.
func (c *Control) carryOut(ctx context.Context, m *Member, d migbuf.Decision) bool {
	err := m.apply(ctx, d)
	if err == nil && !d.Action.Acts() {
		c.afterLook(m)
		return false
	}
	outcome := migbuf.OutcomeOf(err)
	// A question that nobody answered is refused to the buffer, for nothing was sent; but it is not QEMU that refused.
	if errors.Is(err, migbuf.ErrUnknown) {
		if atomic.AddInt32(&c.unknown, 1) == 1 {
			say("vm%d: %v", m.id, err)
		}
	} else if outcome == migbuf.OutcomeRefused {
		atomic.AddInt32(&c.refused, 1)
		say("vm%d: %v", m.id, err)
	}
	tickNow, err := c.buffer.Outcome(m.id, outcome)
	return tickNow && err == nil
}

// afterLook: another hand had changed the limits. Ours are set again by now, but the buffer counts on what was in force.
func (c *Control) afterLook(m *Member) {
	info, err := m.disk.Info()
	if err == nil && info.TakenOver != m.taken {
		m.taken = info.TakenOver
		say("vm%d: another hand has changed its limits", m.id)
		_ = c.buffer.Resync(m.id, info.Limits, !info.Stopped)
	}
}

func (c *Control) measure(ctx context.Context) error {
	v, err := migbuf.CowVolume(c.volume)
	if err != nil {
		return err
	}
	if v.UsedBytes > c.peak {
		c.peak = v.UsedBytes
	}
	// QEMU's counters first, all at once, and only as far as they come soon; then the sizes, which count.
	ctx, cancel := context.WithTimeout(ctx, patience/4)
	defer cancel()
	samples, i := make([]migbuf.Sample, len(c.members)), 0
	var wait sync.WaitGroup
	for _, m := range c.members {
		wait.Add(1)
		go func(m *Member, s *migbuf.Sample) { m.counters(ctx, s); wait.Done() }(m, &samples[i])
		i++
	}
	wait.Wait()
	now := migbuf.Clock()
	for i := range samples {
		if err := c.members[samples[i].ID].size(&samples[i]); err != nil {
			return err
		}
	}
	if err := c.buffer.Sample(now, samples); err != nil || len(samples) == 0 {
		return err
	}
	// U is what the link carried; while nobody waited for it, that is only a lower bound.
	bytes, waited := c.link.carried()
	rate, ok, err := c.flow.Update(now, bytes)
	if err != nil || !ok {
		return err
	}
	if _, err = c.wire.Update(now, rate, !waited); err != nil || c.wire.Now() < 1 {
		return err
	}
	return c.buffer.Link(linkID, uint64(c.wire.Now()))
}

// counters are what the guest wrote, from QEMU. Where they do not come, what was last seen stands.
func (m *Member) counters(ctx context.Context, s *migbuf.Sample) {
	var stats struct {
		Return []struct {
			QDev  string `json:"qdev"`
			Stats struct {
				Bytes      uint64 `json:"wr_bytes"`
				Operations uint64 `json:"wr_operations"`
			} `json:"stats"`
		} `json:"return"`
	}
	m.mu.Lock()
	onTop := m.onTop // before it is, what the guest writes goes to its base: it would be learnt as growing nothing
	m.mu.Unlock()
	if onTop && m.qemu.Run(ctx, "query-blockstats", nil, &stats) != nil {
		stats.Return = nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range stats.Return {
		if d.QDev == qdev {
			m.written, m.writes = d.Stats.Bytes, d.Stats.Operations
		}
	}
	s.ID, s.RemainingBytes, s.WrittenBytes, s.Writes = m.id, m.left, m.written, m.writes
	if m.left == 0 {
		s.RemainingBytes = migbuf.None
	}
}

// size is the overlay's, from our own descriptor.
func (m *Member) size(s *migbuf.Sample) (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.overlay != nil {
		s.FileBytes, err = migbuf.CowFileBytes(m.overlay)
	}
	return err
}

// release closes our descriptor of the overlay, the last one once QEMU has ended or closed its own: the file is gone then.
func (m *Member) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.overlay != nil {
		m.overlay.Close()
		m.overlay = nil
	}
}

// stand stops the guest for its migration, which alone lets it run again. No decision comes in between.
func (m *Member) stand(ctx context.Context) error {
	m.guest.Lock()
	defer m.guest.Unlock()
	err := m.qemu.Run(ctx, "stop", nil, nil)
	m.handsOff = m.handsOff || err == nil
	return err
}

// goOn lets it run again, when its file grows no more.
func (m *Member) goOn(ctx context.Context) error {
	m.guest.Lock()
	defer m.guest.Unlock()
	m.handsOff = true
	return m.qemu.Run(ctx, "cont", nil, nil)
}

// apply carries out a decision, and looks now and then when there is nothing else to do.
func (m *Member) apply(ctx context.Context, d migbuf.Decision) error {
	m.guest.Lock()
	defer m.guest.Unlock()
	m.mu.Lock()
	gone := m.gone
	m.mu.Unlock()
	switch {
	case gone:
		return nil
	case !d.Action.Acts():
		if time.Since(m.looked) < verify {
			return nil
		}
		m.looked = time.Now()
		return m.disk.Learn(ctx, m.qemu)
	case m.handsOff && d.Action.Stops():
		return nil // it stands already
	case m.handsOff:
		return m.disk.Set(ctx, m.qemu, d.Limits)
	}
	m.looked = time.Now()
	return m.disk.Apply(ctx, m.qemu, d)
}

// Add waits for room, and returns when the member's first limit is in force: before its overlay exists.
func (c *Control) Add(ctx context.Context, m *Member, disk migbuf.Geometry) error {
	for {
		err := c.add(m, disk)
		if err == nil {
			break
		}
		if !errors.Is(err, migbuf.ErrNoSpace) {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	for { // until the others have made room for it, and until nobody doubts its first limit
		if err := c.Tick(ctx); err != nil {
			return err
		}
		info, err := m.disk.Info()
		if err != nil || (info.Throttled && !info.Unknown) {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func (c *Control) add(m *Member, disk migbuf.Geometry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.buffer.Add(migbuf.Migration{ID: m.id, Link: linkID}, []migbuf.Geometry{disk})
	if err == nil {
		c.members[m.id] = m
	}
	return err
}

// Phase: so many drains are still ahead. It returns when there is room for them, which fewer than before always have.
func (c *Control) Phase(ctx context.Context, id uint64, phase migbuf.Phase, drainsAhead uint32) error {
	for {
		wait, err := c.buffer.Phase(id, phase, drainsAhead)
		if err != nil || !wait {
			return err
		}
		if err := c.Tick(ctx); err != nil {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("no room for a drain: %w", err)
		}
	}
}

// Remove: its overlay is deleted. Fine when it was never added.
func (c *Control) Remove(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.members[id]; ok {
		delete(c.members, id)
		_ = c.buffer.Remove(id)
	}
}
