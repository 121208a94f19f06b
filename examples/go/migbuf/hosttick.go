// SPDX-License-Identifier: MIT

//go:build cgo

package migbuf

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// One tick of a Host: measure, decide, save, carry out, tell the buffer what became of it.

// tick returns true when the others have to make room at once.
func (h *Host) tick() bool {
	h.measure()
	began := time.Now()
	now := Clock()
	decisions, err := h.buffer.Tick(now, h.decisions)
	h.complain("The buffer cannot decide", err)
	if err != nil {
		return false
	}
	h.decisions = decisions
	if len(decisions) == 0 {
		return false
	}
	h.complain("The state cannot be saved", h.save())

	// A decision lands within lag, or the buffer hears by then that nobody knows. A monitor may have longer time-outs.
	ctx, cancel := context.WithDeadline(h.ctx, began.Add(h.lag*3/4))
	defer cancel()
	var wait sync.WaitGroup
	var tickNow int32
	for _, d := range decisions {
		h.mu.Lock()
		m := h.members[d.ID]
		h.mu.Unlock()
		if m == nil {
			continue // it has ended since
		}
		wait.Add(1)
		go func(m *Member, d Decision) {
			defer wait.Done()
			if h.carryOut(ctx, m, d) {
				atomic.StoreInt32(&tickNow, 1)
			}
		}(m, d)
	}
	wait.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if took := Clock() - now; took > h.stats.Slowest {
		h.stats.Slowest = took
	}
	return tickNow != 0
}

// carryOut does what was decided, and tells the buffer what became of it.
func (h *Host) carryOut(ctx context.Context, m *Member, d Decision) (tickNow bool) {
	took, err := m.apply(ctx, d)
	if err == nil && !d.Action.Acts() {
		m.afterLook()
		return false
	}
	h.mu.Lock()
	over := m.over
	h.mu.Unlock()
	if over {
		return false // it ended meanwhile, and its Disk with it: that is no refusal
	}
	outcome := OutcomeOf(err)
	h.complain("A decision was not carried out: "+m.name, err)
	if took {
		h.config.Log.Debug("A decision", "vm", m.name, "action", d.Action.String(), "reason", d.Reason.String(), "units", d.Limits.IopsWr,
			"unit_bytes", d.Limits.IopsSize, "bytes_per_s", d.Limits.BpsWr, "outcome", outcome.String())
	}
	h.mu.Lock()
	if d.Action.Acts() {
		h.stats.Decisions++
	}
	if d.Action.Stops() {
		h.stats.Pauses++
	}
	m.refusal = nil
	switch { // where a question got no answer nothing was sent: the buffer hears that it was refused, but QEMU refused nothing
	case outcome == OutcomeUnknown || errors.Is(err, ErrUnknown) || errors.Is(err, ErrTimeout):
		h.stats.Unknown++
	case outcome == OutcomeRefused:
		h.stats.Refused++
		m.refusal = err
	}
	if m.refusal == nil {
		m.refusedSince = time.Time{}
	} else if m.refusedSince.IsZero() {
		m.refusedSince = time.Now()
	}
	h.mu.Unlock()
	tickNow, err = h.buffer.Outcome(m.id, outcome)
	return tickNow && err == nil
}

// apply carries out a decision, and looks whether another hand has changed the limits when there is nothing else to do.
// took is false when QEMU was not concerned.
func (m *Member) apply(ctx context.Context, d Decision) (took bool, err error) {
	const op = "host_apply"
	if err := m.enter(ctx, op); err != nil {
		return false, err
	}
	defer m.leaveGuest()
	disk, monitor := m.hands()
	m.host.mu.Lock()
	over, kept, handsOff, mustRun := m.over, m.kept, m.handsOff, m.mustRun
	m.host.mu.Unlock()
	switch {
	case over:
		return false, nil
	case !kept:
		return false, &Error{Op: op, Code: ErrState, Text: "the state was not saved, so no limit is set yet", Outcome: OutcomeRefused}
	case mustRun && !handsOff && !d.Action.Stops():
		return true, m.makeRun(ctx, d)
	case !d.Action.Acts():
		if time.Since(m.looked) < m.host.interval {
			return false, nil
		}
		m.looked = time.Now()
		return false, disk.Learn(ctx, monitor)
	case handsOff && !d.Action.Stops(): // the migration alone lets it run
		return true, disk.Set(ctx, monitor, d.Limits)
	}
	if m.looked.IsZero() { // it may have waited long for its turn: another hand's limits would be overwritten unseen
		if err = disk.Learn(ctx, monitor); err != nil {
			return false, err
		}
	}
	m.looked = time.Now()
	if err = disk.Apply(ctx, monitor, d); err == nil && d.Action.Stops() {
		m.host.mu.Lock()
		m.mustRun = false // the buffer knows that it stands, and lets it run
		m.host.mu.Unlock()
	}
	return true, err
}

// makeRun: nobody knew whether the guest stands because of us, so the buffer took it for running, and has not decided to stop it.
func (m *Member) makeRun(ctx context.Context, d Decision) error {
	disk, monitor := m.hands()
	if !d.Action.Acts() {
		info, err := disk.Info()
		if err != nil {
			return err
		}
		d.Limits = info.Limits
	}
	d.Action = ActionResume
	err := disk.Apply(ctx, monitor, d)
	if err == nil {
		m.host.mu.Lock()
		m.mustRun = false
		m.host.mu.Unlock()
	}
	return err
}

// afterLook: another hand had changed the limits. Ours are set again by now, but the buffer counts on what was in force.
func (m *Member) afterLook() {
	disk, _ := m.hands()
	info, err := disk.Info()
	if err == nil && info.TakenOver != m.taken {
		m.taken = info.TakenOver
		m.host.config.Log.Info("Another hand has changed the limits", "vm", m.name)
		_ = m.host.buffer.Resync(m.id, info.Limits, !info.Stopped)
	}
}

// measure gives the buffer the sizes of all overlays, QEMU's counters where they come soon, and the links.
func (h *Host) measure() {
	v, err := CowVolume(h.root)
	h.complain("The volume cannot be measured", err)
	ctx, cancel := context.WithTimeout(h.ctx, h.lag/5)
	defer cancel()
	h.mu.Lock()
	if err == nil && v.UsedBytes > h.stats.PeakBytes {
		h.stats.PeakBytes = v.UsedBytes
	}
	members := make([]*Member, 0, len(h.members))
	var late []*Member
	for _, m := range h.members {
		switch {
		case m.inBuffer:
			members = append(members, m)
		case m.leaving == nil: // its limits could not be given back when it was tried
			late = append(late, m)
		}
	}
	h.mu.Unlock()
	for _, m := range late {
		h.leave(m)
	}
	asked := Clock()
	seen := make([]*look, len(members))
	var wait sync.WaitGroup
	for i, m := range members {
		wait.Add(1)
		go func(i int, m *Member) { seen[i] = m.lookForTick(ctx); wait.Done() }(i, m)
	}
	wait.Wait()
	now := Clock()
	for i, m := range members {
		own, theirs := m.samples(seen[i])
		// One that cannot be taken spoils no other's. A size that QEMU told was so no later than when it was asked.
		h.complain("A size is not known: "+m.name, firstOf(m.fault, h.buffer.Sample(asked, theirs), h.buffer.Sample(now, own)))
		m.wrote(asked, seen[i], sumOf(own, theirs))
		m.follow(seen[i])
	}
	h.measureLinks(now)
}

func sumOf(some ...[]Sample) (bytes uint64) {
	for _, samples := range some {
		for _, s := range samples {
			bytes += s.FileBytes
		}
	}
	return bytes
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, ErrNotFound) { // it has ended since
			return err
		}
	}
	return nil
}

// measureLinks: U is what a link carried; while nobody waited for it, that is only a lower bound.
func (h *Host) measureLinks(now time.Duration) {
	h.mu.Lock()
	sent := map[uint64]uint64{}
	for _, m := range h.members {
		sent[m.migration.Link] += m.sent
	}
	h.mu.Unlock()
	for number, bytes := range sent {
		l := h.links[number] // the loop's own but for sent
		if l == nil {
			l = &hostLink{}
			h.mu.Lock()
			h.links[number] = l
			h.mu.Unlock()
		}
		atLeast := false
		if h.config.Link != nil {
			var err error
			bytes, atLeast, err = h.config.Link(number)
			h.complain("A link's counter cannot be read", err)
			if err != nil {
				continue
			}
		} else {
			h.mu.Lock()
			bytes += l.sent
			h.mu.Unlock()
		}
		rate, ok, err := l.flow.Update(now, bytes)
		if err == nil && ok {
			_, err = l.link.Update(now, rate, atLeast)
		}
		if known := l.link.Now(); err == nil && known >= 1 {
			h.mu.Lock()
			l.speed = known
			h.mu.Unlock()
			err = h.buffer.Link(number, uint64(known))
		}
		h.complain("A link's speed is not known", firstOf(err))
	}
}

// look is what one query-blockstats said of a member's disks.
type look struct {
	overlaid []bool // on an overlay
	bytes    []uint64
	writes   []uint64
	sizes    []uint64 // of overlays that we have no descriptor of, from query-block; None: not asked, not known
}

// stacked tells how many disks lie on an overlay.
func (l *look) stacked() (n int) {
	for _, on := range l.overlaid {
		if on {
			n++
		}
	}
	return n
}

// look asks QEMU which node is on top of each disk, and what the guest wrote. It waits for QEMU no longer than the context
// lasts; before a query has come back there is no other.
func (m *Member) look(ctx context.Context) (*look, error) {
	m.host.mu.Lock()
	turn := m.looking
	m.host.mu.Unlock()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	type result struct {
		l   *look
		err error
	}
	came := make(chan result, 1)
	go func() {
		l, err := m.lookNow(ctx)
		<-turn
		came <- result{l, err}
	}()
	select {
	case r := <-came:
		return r.l, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// lookForTick is a look where QEMU can be asked; nil where the answer does not come.
func (m *Member) lookForTick(ctx context.Context) *look {
	m.host.mu.Lock()
	mute := m.mute
	m.host.mu.Unlock()
	if mute {
		return nil
	}
	l, _ := m.look(ctx)
	return l
}

func (m *Member) lookNow(ctx context.Context) (*look, error) {
	disk, monitor := m.hands()
	var stats struct {
		Return []struct {
			QDev  string `json:"qdev"`
			Node  string `json:"node-name"`
			Stats struct {
				Bytes  uint64 `json:"wr_bytes"`
				Writes uint64 `json:"wr_operations"`
			} `json:"stats"`
		} `json:"return"`
	}
	if err := monitor.Run(ctx, "query-blockstats", nil, &stats); err != nil {
		switch {
		case errors.Is(err, ErrPeer):
			m.host.mu.Lock()
			m.mute = true // this monitor cannot ask: nothing is known but our descriptors
			m.host.mu.Unlock()
		case ctx.Err() == nil:
			m.host.lose(m)
		}
		return nil, err
	}
	n := len(m.nodes)
	l := &look{make([]bool, n), make([]uint64, n), make([]uint64, n), make([]uint64, n)}
	for i, node := range m.nodes {
		qdev, found := disk.QDev(node), false
		l.sizes[i] = None
		for _, s := range stats.Return {
			if s.QDev == qdev && s.Node != "" {
				found = true
				l.overlaid[i], l.bytes[i], l.writes[i] = s.Node != node, s.Stats.Bytes, s.Stats.Writes
			}
		}
		if !found && qdev != "" {
			return nil, &Error{Op: "host_look", Code: ErrProtocol, Text: "query-blockstats does not say what is on top of " + qdev}
		}
		m.host.mu.Lock()
		blind := l.overlaid[i] && m.files[i] == nil
		m.host.mu.Unlock()
		if blind {
			m.lookSize(ctx, monitor, i, qdev, l)
		}
	}
	return l, nil
}

// lookSize asks for the size of an overlay that we have no descriptor of: the process that had one is gone.
func (m *Member) lookSize(ctx context.Context, monitor Monitor, i int, qdev string, l *look) {
	var blocks struct {
		Return []struct {
			QDev     string `json:"qdev"`
			Inserted struct {
				Image struct {
					Size *uint64 `json:"actual-size"`
				} `json:"image"`
			} `json:"inserted"`
		} `json:"return"`
	}
	if monitor.Run(ctx, "query-block", nil, &blocks) != nil {
		return
	}
	for _, b := range blocks.Return {
		if b.QDev == qdev && b.Inserted.Image.Size != nil {
			l.sizes[i] = *b.Inserted.Image.Size
		}
	}
}

// samples are what is known of its files: by our own descriptors, and by what QEMU said. A disk of which nothing is known
// has none, and the buffer counts with the worst.
func (m *Member) samples(l *look) (own, theirs []Sample) {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	m.fault = nil
	for i := range m.nodes {
		s := Sample{ID: m.id, Disk: uint32(i), RemainingBytes: None}
		if i == 0 { // one sum for all disks
			s.RemainingBytes = m.left()
		}
		if l != nil && l.overlaid[i] { // before it is, a guest writes to its base: it would be learnt as growing nothing
			s.WrittenBytes, s.Writes = l.bytes[i], l.writes[i]
		}
		switch {
		case m.files[i] != nil:
			var err error
			if s.FileBytes, err = CowFileBytes(m.files[i]); err != nil {
				m.fault = err
				continue
			}
			own = append(own, s)
		case l != nil && !l.overlaid[i]: // there is none yet, or none any more
			theirs = append(theirs, s)
		case l != nil && l.sizes[i] != None:
			s.FileBytes = l.sizes[i]
			theirs = append(theirs, s)
		}
	}
	return own, theirs
}

// left is what is still to send, 0 where nobody knows.
func (m *Member) left() uint64 {
	switch {
	case m.remainingTold && m.remaining == 0:
		return None
	case m.remainingTold || m.phase != PhaseBase || m.sent == 0:
		return m.remaining
	case m.sent < m.diskBytes:
		return m.diskBytes - m.sent
	}
	return None
}

// follow draws conclusions from what is on top: the snapshots' drain is over, or nobody's migration is over.
func (m *Member) follow(l *look) {
	if l == nil {
		return
	}
	h, on := m.host, l.stacked()
	h.mu.Lock()
	snapshot := on == len(m.nodes) && m.phase == PhaseBase && m.snapshotAhead
	if snapshot {
		m.snapshotAhead = false
		m.drains--
	}
	lost := m.orphan && on == 0 && !m.over
	if snapshot {
		_, _ = h.buffer.Phase(m.id, m.phase, m.drains) // fewer always have room
	}
	h.mu.Unlock()
	if lost {
		h.leave(m) // the next tick asks again where that fails
	}
}
