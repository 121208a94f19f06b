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

// Control is the loop around the library: measured sizes go into the buffer, its decisions go to the guests' throttles.
// This is the part of a host to copy; it knows monitors and descriptors, but not how a VM is migrated.
type Control struct {
	buffer *migbuf.Buffer
	volume *os.File // any descriptor in it
	link   *Wire
	start  time.Time

	mu        sync.Mutex // of a tick, and of all below
	members   map[uint64]*Member
	decisions []migbuf.Decision
	wire      migbuf.Link
	flow      migbuf.LinkFlow
	peak      uint64 // of the volume's used bytes
	decided   int    // decisions that were not "keep"
	pauses    int
	refused   int32
	measured  time.Time     // when the sizes of this tick were taken
	slowest   time.Duration // from then until the last decision was in force
}

// Member is one VM under control.
type Member struct {
	id      uint64
	qemu    *QEMU
	disk    *migbuf.Disk
	overlay *os.File // ours, as it has no name; nil before it exists

	mu       sync.Mutex
	onTop    bool   // the overlay is in use: what the guest writes makes it grow
	gone     bool   // QEMU ends: nothing to set any more
	handsOff bool   // its migration stops and starts the guest now, we do not
	left     uint64 // base still to copy, or overlay still to send
}

const linkID = 1 // everybody shares one link

func newControl(volume *os.File, link *Wire, interval time.Duration, policy migbuf.Policy) (*Control, error) {
	v, err := migbuf.CowVolume(volume)
	if err != nil {
		return nil, err
	}
	o := migbuf.DefaultBufferOptions()
	o.IntervalMs, o.Policy = uint32(interval.Milliseconds()), policy
	o.LateFactorPercent, o.LagMs = 400, 500 // a busy machine, and one command at a time: the volume holds all the same
	b, err := migbuf.NewBuffer(v.FreeBytes, &o)
	if err != nil {
		return nil, err
	}
	c := &Control{buffer: b, volume: volume, link: link, start: time.Now(), members: map[uint64]*Member{}}
	c.wire, err = migbuf.NewLink(0)
	return c, err
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

// Tick measures everybody, decides, and waits until the decisions are carried out.
func (c *Control) Tick(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.measure(); err != nil {
		return err
	}
	var err error
	if c.decisions, err = c.buffer.Tick(time.Since(c.start), c.decisions); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var wait sync.WaitGroup
	for _, d := range c.decisions {
		if d.Action == migbuf.Keep {
			continue
		}
		c.decided++
		if d.Action.Stops() {
			say("vm%d is paused: %v", d.ID, d.Reason)
			c.pauses++
		}
		wait.Add(1)
		go func(m *Member, d migbuf.Decision) {
			defer wait.Done()
			if err := m.apply(ctx, d); err != nil {
				_ = c.buffer.Refused(m.id)
				atomic.AddInt32(&c.refused, 1)
				say("vm%d: %v", m.id, err)
			}
		}(c.members[d.ID], d)
	}
	wait.Wait()
	if lag := time.Since(c.measured); lag > c.slowest {
		c.slowest = lag
	}
	return nil
}

func (c *Control) measure() error {
	v, err := migbuf.CowVolume(c.volume)
	if err != nil {
		return err
	}
	if v.UsedBytes > c.peak {
		c.peak = v.UsedBytes
	}
	// QEMU's counters first, all at once, as they may take a while; then the sizes, which count.
	samples, i := make([]migbuf.Sample, len(c.members)), 0
	var wait sync.WaitGroup
	for _, m := range c.members {
		wait.Add(1)
		go func(m *Member, s *migbuf.Sample) { m.counters(s); wait.Done() }(m, &samples[i])
		i++
	}
	wait.Wait()
	c.measured = time.Now()
	for i := range samples {
		if err := c.members[samples[i].ID].size(&samples[i]); err != nil {
			return err
		}
	}
	if err := c.buffer.Sample(samples); err != nil || len(samples) == 0 {
		return err
	}
	// U is what the link carried; while nobody waited for it, that is only a lower bound.
	now := time.Since(c.start)
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

// counters are what the guest wrote, from QEMU. Without them the size alone counts.
func (m *Member) counters(s *migbuf.Sample) {
	m.mu.Lock()
	onTop := m.onTop
	s.ID, s.RemainingBytes = m.id, m.left
	m.mu.Unlock()
	var stats struct {
		Return []struct {
			QDev  string `json:"qdev"`
			Stats struct {
				Bytes      uint64 `json:"wr_bytes"`
				Operations uint64 `json:"wr_operations"`
			} `json:"stats"`
		} `json:"return"`
	}
	if !onTop || m.qemu.Run("query-blockstats", nil, &stats) != nil {
		return // what went to the base would be learnt as growing nothing
	}
	for _, d := range stats.Return {
		if d.QDev == qdev {
			s.WrittenBytes, s.Writes = d.Stats.Bytes, d.Stats.Operations
		}
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

// own: the migration stops and starts the guest from now on.
func (m *Member) own() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handsOff = true
}

func (m *Member) apply(ctx context.Context, d migbuf.Decision) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		return nil
	}
	if !m.handsOff {
		return m.disk.Apply(ctx, m.qemu, d)
	}
	if d.Action.Stops() {
		return nil // it stands already
	}
	return m.disk.Set(ctx, m.qemu, d.Limits)
}

// Add waits for room, and returns when the member's first limit is in force: before its overlay exists.
func (c *Control) Add(ctx context.Context, m *Member, disk migbuf.Geometry) error {
	for {
		c.mu.Lock()
		migration := migbuf.NewMigration(m.id)
		migration.Link = linkID
		err := c.buffer.Add(migration, []migbuf.Geometry{disk})
		if err == nil {
			c.members[m.id] = m
		}
		c.mu.Unlock()
		if err == nil {
			break
		}
		if !errors.Is(err, migbuf.ErrNoSpace) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err := c.Tick(ctx); err != nil {
		return err
	}
	info, err := m.disk.Info()
	if err == nil && !info.Throttled {
		view, _ := c.buffer.View(m.id)
		if !view.Paused() {
			err = fmt.Errorf("vm%d has no first limit", m.id)
		}
	}
	return err
}

// Phase: a drain is over, so many are still ahead.
func (c *Control) Phase(id uint64, phase migbuf.Phase, drainsAhead uint32) {
	_ = c.buffer.Phase(id, phase, drainsAhead)
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
