// SPDX-License-Identifier: MIT

//go:build cgo

package migbuf

import (
	"context"
	"errors"
	"math"
	"syscall"
	"time"
)

// What a Host learns of a VM, for the VM's next migration: one line an attempt.

// HistoryStore is where a daemon keeps the histories of its VMs: in LXD and Incus the VM's key user.migbuf.history, which
// travels with it. Its methods are called without any lock of the Host's, one VM at a time, and heed their context.
type HistoryStore interface {
	// History is what is kept for that VM; "" for one without any.
	History(ctx context.Context, name string) (string, error)

	// KeepHistory takes the place of what was kept. A VM that has moved is at its target by then: keep its text there, or
	// here until the two are merged ([HistoryMerge]). It is called again after an error, also by another process, unless
	// that matches ErrNotFound: there is no such VM any more.
	KeepHistory(ctx context.Context, name, text string) error
}

// past is what a Member knows of attempts: of the VM's earlier ones, and of this one.
type past struct {
	text  string // its history when this one began
	prior Prior
	id    string
	to    string
	why   AttemptWhy   // as the daemon said; 0: nothing
	at    AttemptPhase // how far it came

	begun, mirrored, memory time.Duration // Clock when it was so; 0: not yet, or in an earlier process

	// As measured, of all disks together.
	seen         time.Duration // when the counters were
	written      uint64
	free, all    rate // while no limit of ours held the guest back, and in any case
	peak         uint64
	ratio        float64
	used         float64 // memory
	rounds       RAMRounds
	last         RAMReport
	set, touches float64
	link         float64
	throttle     uint64
}

// rate is what was written in which time.
type rate struct{ bytes, seconds float64 }

func (r rate) perS() float64 {
	if r.seconds < 1 {
		return 0
	}
	return r.bytes / r.seconds
}

// unknownRAM is what a guest is taken to have of which nobody said.
const unknownRAM = 1 << 30

// remember asks what became of the VM's earlier attempts, and believes it where the daemon said nothing.
func (m *Member) remember(ctx context.Context, vm HostVM) {
	p := &m.past
	if p.begun, p.to, p.at, p.prior = Clock(), vm.To, AttemptPhaseBase, NewPrior(unknownRAM); vm.RAMBytes != 0 {
		p.prior = NewPrior(vm.RAMBytes)
	}
	if p.id = vm.ID; p.id == "" {
		p.id = vm.Name
	}
	store, log := m.host.config.History, m.host.config.Log
	if store == nil {
		return
	}
	text, err := store.History(ctx, vm.Name)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	m.host.complain("A history cannot be read: "+m.name, err)
	if err != nil || text == "" {
		return
	}
	prior, err := HistoryPrior(text, uint64(time.Now().Unix()), p.prior)
	said, e := HistoryDescribe(text, vm.Name)
	if err != nil || e != nil || prior.Attempts == 0 {
		m.host.complain("A history cannot be read: "+m.name, firstOf(err, e))
		return
	}
	p.text, p.prior = text, prior
	if m.migration.RateBytesPerS == 0 && knows(text, func(a Attempt) uint64 { return a.WriteBytesPerS }) {
		m.migration.RateBytesPerS = uint64(math.Min(prior.WriteBytesPerS, 1e15))
	}
	log.Info("Earlier migrations", "vm", m.name, "history", said)
	if prior.Same >= 2 {
		log.Warn("It failed in the same way each time of late: agree on more for it", "vm", m.name, "times", prior.Same)
	}
}

// knows tells whether an attempt has measured that.
func knows(text string, number func(Attempt) uint64) bool {
	for i := 0; i < HistoryLines; i++ {
		a, there, err := HistoryRead(text, i)
		if !there || err != nil {
			return false
		}
		if number(a) != AttemptUnknown {
			return true
		}
	}
	return false
}

// DescribeHistory is what became of a VM's earlier migrations, for people: "attempt 24 of vm1: 23 moved, the last failed in ram,
// no convergence". "" where no histories are kept. Errors: those of [HistoryStore], ErrTooBig.
func (h *Host) DescribeHistory(ctx context.Context, name string) (string, error) {
	if h == nil || h.config.History == nil {
		return "", nil
	}
	text, err := h.config.History.History(ctx, name)
	if err != nil {
		return "", err
	}
	return HistoryDescribe(text, name)
}

// Prior is what was believed of the VM when this migration began; without a history it is [NewPrior] of HostVM.RAMBytes, or of
// 1 GiB.
func (m *Member) Prior() Prior {
	if m == nil {
		return NewPrior(unknownRAM)
	}
	return m.past.prior
}

// Because says why this migration will not succeed, for its history: before GiveUp. Without it the context that GiveUp gets
// has to tell: cancelled, its deadline, or nobody knows. Errors: ErrRange for no reason.
func (m *Member) Because(why AttemptWhy) error {
	if m == nil {
		return nil
	}
	if why < AttemptWhyDone || why > AttemptWhyNobodyKnows {
		return &Error{Op: "host_because", Code: ErrRange, Text: "there is no such reason"}
	}
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	m.past.why = why
	return nil
}

// RAM takes an answer of query-migrate: ask once a second, as daemons do for their progress. It tells the next attempt how
// fast this guest dirties how much memory. Errors: those of [RAMRounds.Update], ErrState once it has ended.
func (m *Member) RAM(report *RAMReport) error {
	if m == nil {
		return nil
	}
	return m.ram(uint64(Clock().Milliseconds()), report)
}

func (m *Member) ram(nowMs uint64, report *RAMReport) error {
	const op = "host_ram"
	if report == nil {
		return &Error{Op: op, Code: ErrInvalid, Text: "there is no report"}
	}
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	if m.over {
		return &Error{Op: op, Code: ErrState, Text: "its migration has ended"}
	}
	p := &m.past
	rounds := p.rounds
	ended, err := rounds.Update(nowMs, report)
	if err != nil {
		return err
	}
	p.rounds = rounds
	if report.RAM != nil { // QEMU leaves it out where it has none
		p.last = *report
	} else {
		p.last.Status, p.last.Error = report.Status, report.Error
	}
	if report.ThrottlePercent > p.throttle {
		p.throttle = report.ThrottlePercent
	}
	if phase := RAMPhaseOf(report.Status); phase == RAMPhasePreSwitchover || phase == RAMPhaseDevice {
		p.at = AttemptPhaseSwitch
	}
	if !ended {
		return nil
	}
	if r := p.last.RAM; r != nil && p.used == 0 && r.Total > r.Duplicate*r.PageSize {
		p.used = float64(r.Total - r.Duplicate*r.PageSize)
	}
	if set, touches, known, err := p.rounds.Guest(); err == nil {
		p.touches = touches
		if p.set = 0; known && !math.IsInf(set, 0) {
			p.set = set
		}
	}
	if n := p.rounds.Count; n > 0 && p.rounds.Round[n-1].SpanS > 0 {
		p.link = p.rounds.Round[n-1].SentBytes / p.rounds.Round[n-1].SpanS
	}
	return nil
}

// MemoryPlan is what to set in QEMU before `migrate`, and what is expected then. What may become necessary has to be armed
// before: while memory is sent it is too late.
type MemoryPlan struct {
	Known           bool        // by an earlier attempt; else nothing but the agreement speaks
	Action          RAMAction   // what it will take: RAMActionKeep: nothing; RAMActionWait: not known, or more than was agreed
	LimitMs         uint32      // downtime-limit to begin with
	ThrottlePercent uint32      // CPU throttle that it will take, 0: none
	Forecast        RAMForecast // where Known; else its verdict is unknown
	Options         RAMOptions  // xbzrle and multifd, where they help
	agreement       Agreement
}

// PlanMemory says what to set before this VM's memory is sent, from its history and from what its link has carried.
// ramBytes is its memory, 0: as HostVM said. Errors: ErrRange, ErrInvalid for the agreement.
func (m *Member) PlanMemory(a Agreement, ramBytes uint64) (MemoryPlan, error) {
	a = orDefaults(a, DefaultAgreement())
	plan := MemoryPlan{Action: RAMActionWait, LimitMs: a.WantMs, Forecast: RAMForecast{Verdict: RAMVerdictUnknown}, Options: DefaultRAMOptions(), agreement: a}
	if err := a.Check(); err != nil || m == nil {
		return plan, err
	}
	m.host.mu.Lock()
	p, link := m.past, 0.0
	if l := m.host.links[m.migration.Link]; l != nil {
		link = l.speed
	}
	m.host.mu.Unlock()
	if ramBytes == 0 {
		ramBytes = m.ramBytes
	}
	g := NewRAMGuest()
	if flow := float64(m.migration.FlowBytesPerS); flow != 0 && (link == 0 || flow < link) {
		link = flow
	}
	plan.Known = link >= 1 && ramBytes != 0 && knows(p.text, func(a Attempt) uint64 { return a.DirtyBytesPerS }) &&
		knows(p.text, func(a Attempt) uint64 { return a.SetBytes })
	if !plan.Known {
		return plan, nil
	}
	g.RAMBytes, g.LeftBytes, g.LinkBytesPerS, g.LimitMs = float64(ramBytes), float64(ramBytes), link, float64(a.WantMs)
	g.SetBytes, g.RateBytesPerS, g.Known, g.Rounds, g.NewRound = math.Min(p.prior.SetBytes, float64(ramBytes)), p.prior.DirtyBytesPerS, 1, 1, 1
	d, err := g.Decide(a)
	if err != nil {
		return plan, err
	}
	plan.Action, plan.LimitMs, plan.ThrottlePercent = d.Action, d.LimitMs, d.ThrottlePercent
	g.LimitMs, g.ThrottlePercent = float64(d.LimitMs), float64(d.ThrottlePercent)
	if plan.Forecast, err = g.Forecast(a); err != nil {
		return plan, err
	}
	var host syscall.Sysinfo_t
	if syscall.Sysinfo(&host) != nil {
		return plan, nil
	}
	return plan, plan.Options.Choose(a, p.prior, plan.Forecast.Verdict, link, uint64(host.Totalram)*uint64(host.Unit))
}

// Parameters are the arguments of migrate-set-parameters at the source. A throttle never gets beyond what was agreed, which
// QEMU's own default (99 %) does.
func (p MemoryPlan) Parameters() map[string]any {
	most := p.agreement.ThrottleMostPercent
	if most == 0 {
		most = 1 // QEMU takes no less; leave out auto-converge as well
	}
	first := p.ThrottlePercent
	if first == 0 {
		first = 1
	}
	parameters := map[string]any{"downtime-limit": p.LimitMs, "cpu-throttle-initial": first, "max-cpu-throttle": most}
	if p.Options.XBZRLECacheBytes != 0 {
		parameters["xbzrle-cache-size"] = p.Options.XBZRLECacheBytes
	}
	if p.Options.MultifdChannels != 0 {
		parameters["multifd-channels"] = p.Options.MultifdChannels
	}
	return parameters
}

// Capabilities are those that the plan needs: at the source, and all but auto-converge at the target too.
func (p MemoryPlan) Capabilities() map[string]bool {
	return map[string]bool{"auto-converge": p.agreement.ThrottleMostPercent != 0, "postcopy-ram": p.agreement.Postcopy != 0,
		"xbzrle": p.Options.XBZRLECacheBytes != 0, "multifd": p.Options.MultifdChannels != 0}
}

// wrote is what a look saw of the guest's writes, and of its overlays' growth.
func (m *Member) wrote(now time.Duration, l *look, fileBytes uint64) {
	view, err := m.host.buffer.View(m.id)
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	p := &m.past
	if fileBytes > p.peak {
		p.peak = fileBytes
	}
	if l == nil || err != nil || l.stacked() < len(m.nodes) {
		p.seen = 0
		return
	}
	if view.Ratio > 0 {
		p.ratio = view.Ratio
	}
	written := uint64(0)
	for _, bytes := range l.bytes {
		written += bytes
	}
	if p.seen != 0 && now > p.seen && written >= p.written {
		bytes, seconds := float64(written-p.written), (now - p.seen).Seconds()
		p.all.bytes, p.all.seconds = p.all.bytes+bytes, p.all.seconds+seconds
		if !view.Paused() && bytes < 0.8*seconds*float64(view.InForceBytesPerS) {
			p.free.bytes, p.free.seconds = p.free.bytes+bytes, p.free.seconds+seconds
		}
	}
	p.seen, p.written = now, written
}

// attempt is the line of this migration. The Host's mu is held.
func (m *Member) attempt(outcome AttemptOutcome, why AttemptWhy) Attempt {
	p, now, a := &m.past, Clock(), NewAttempt()
	a.ID, a.From, a.To, a.Outcome, a.Why, a.AtS = p.id, m.host.config.Name, p.to, outcome, why, uint64(time.Now().Unix())
	a.Phase = p.at
	switch outcome {
	case AttemptOutcomeMoved:
		a.Phase, a.Why = AttemptPhaseTarget, AttemptWhyDone
	case AttemptOutcomeRefused:
		a.Phase = AttemptPhaseAdmission
		return a
	}
	ms := func(to *uint64, from, until time.Duration) {
		if until == 0 {
			until = now
		}
		if from != 0 && until >= from {
			*to = uint64((until - from).Milliseconds())
		}
	}
	ms(&a.DiskMs, p.begun, p.mirrored)
	ms(&a.MirrorMs, p.mirrored, p.memory)
	put := func(to *uint64, x float64) {
		if x >= 1 && x < 1e18 {
			*to = uint64(x)
		}
	}
	put(&a.DiskBytes, float64(m.diskBytes))
	put(&a.PeakBytes, float64(p.peak))
	put(&a.WriteBytesPerS, math.Max(p.free.perS(), p.all.perS()))
	put(&a.GrowthPpm, p.ratio*1e6)
	m.memoryAttempt(&a, put)
	return a
}

// memoryAttempt is what the reports of memory said.
func (m *Member) memoryAttempt(a *Attempt, put func(*uint64, float64)) {
	p := &m.past
	r := p.last.RAM
	if r == nil {
		return
	}
	a.RAMMs, a.SentBytes, a.Rounds, a.ThrottlePct = p.last.TotalMs, r.Transferred, p.rounds.Finished, p.throttle
	a.PostCopy = r.PostcopyBytes != 0 || RAMPhaseOf(p.last.Status) == RAMPhasePostcopy
	if p.last.DowntimeMs != nil && a.Outcome == AttemptOutcomeMoved {
		a.DowntimeMs = *p.last.DowntimeMs
	}
	if x := p.last.XBZRLE; x != nil && x.Pages+x.Overflow != 0 && r.PageSize != 0 {
		put(&a.EncodingPpm, 1e6*(float64(x.Bytes)/float64(r.PageSize)+float64(x.Overflow))/float64(x.Pages+x.Overflow))
	}
	put(&a.RAMBytes, p.used)
	put(&a.SetBytes, p.set)
	put(&a.DirtyBytesPerS, p.touches)
	put(&a.LinkBytesPerS, p.link)
}

// pendingAttempt is a line that has ended and is not kept yet.
type pendingAttempt struct {
	Name    string  `json:"name"`
	Attempt Attempt `json:"attempt"`
}

// note has a line kept, now or later: true where there is one to keep. Of a migration that never began there is none unless it
// is known why, for nothing else is said of the VM or of its host. The Host's mu is held.
func (h *Host) note(m *Member, outcome AttemptOutcome) bool {
	why := m.past.why
	if why == 0 {
		why = AttemptWhyNobodyKnows
	}
	if h.config.History == nil || outcome == 0 || outcome == AttemptOutcomeRefused && why == AttemptWhyNobodyKnows {
		return false
	}
	if why == AttemptWhyCancelled && outcome == AttemptOutcomeFailed {
		outcome = AttemptOutcomeBack
	}
	h.attempts = append(h.attempts, pendingAttempt{m.name, m.attempt(outcome, why)})
	return true
}

// refused has a line kept of a migration that never began.
func (h *Host) refused(m *Member, err error) {
	h.mu.Lock()
	m.past.why = whyOf(err)
	noted := h.note(m, AttemptOutcomeRefused)
	h.mu.Unlock()
	if noted {
		h.complain("The state cannot be saved", h.save())
		h.keepAttempts()
	}
}

// keepAttempts begins to keep what is pending, unless that is under way: the loop begins it again after an error.
func (h *Host) keepAttempts() {
	h.mu.Lock()
	begin := len(h.attempts) > 0 && !h.keeping && !h.closed
	h.keeping = h.keeping || begin
	h.mu.Unlock()
	if !begin {
		return
	}
	if !h.spawn(h.keepAll) {
		h.mu.Lock()
		h.keeping = false
		h.mu.Unlock()
	}
}

func (h *Host) keepAll() {
	h.mu.Lock()
	pending := append([]pendingAttempt(nil), h.attempts...)
	h.mu.Unlock()
	kept := 0
	stuck := map[string]bool{} // a VM's lines are kept in their order: none before those that are not kept yet
	for _, one := range pending {
		if stuck[one.Name] {
			continue
		}
		err := h.keepAttempt(one)
		stuck[one.Name] = err != nil
		h.complain("A history cannot be kept: "+one.Name, err)
		h.mu.Lock()
		if err == nil {
			for i := range h.attempts {
				if h.attempts[i] == one {
					h.attempts = append(h.attempts[:i:i], h.attempts[i+1:]...)
					break
				}
			}
			kept++
		}
		h.mu.Unlock()
	}
	if kept > 0 {
		h.complain("The state cannot be saved", h.save())
	}
	if kept < len(pending) {
		h.sleep()
	}
	h.mu.Lock()
	h.keeping = false
	h.mu.Unlock()
}

// keepAttempt adds a line to what is kept, unless an earlier process did so and ended before it could save that.
func (h *Host) keepAttempt(one pendingAttempt) error {
	ctx, cancel := context.WithTimeout(h.ctx, patienceOfOne)
	defer cancel()
	text, err := h.config.History.History(ctx, one.Name)
	if err == nil {
		if isIn(text, one.Attempt) {
			return nil
		}
		if text, err = HistoryAppend(text, one.Attempt); err != nil {
			h.config.Log.Error("A line of a history makes no sense", "vm", one.Name, "err", err)
			return nil // it never will
		}
		err = h.config.History.KeepHistory(ctx, one.Name, text)
	}
	if errors.Is(err, ErrNotFound) {
		h.config.Log.Info("There is no such VM any more, and so no history", "vm", one.Name)
		return nil
	}
	return err
}

// isIn tells whether a history has that line, whatever lines were added after it.
func isIn(text string, a Attempt) bool {
	for i := 0; i < HistoryLines; i++ {
		old, there, err := HistoryRead(text, i)
		if err != nil || !there {
			return false
		}
		a.Number, a.EarlierMoved, a.EarlierBack, a.EarlierFailed, a.EarlierLost, a.EarlierRefused = old.Number, old.EarlierMoved,
			old.EarlierBack, old.EarlierFailed, old.EarlierLost, old.EarlierRefused // HistoryAppend sets them
		if old == a {
			return true
		}
	}
	return false
}

// whyOf is what an error of a migration, or its context's, says.
func whyOf(err error) AttemptWhy {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return AttemptWhyDeadline
	case errors.Is(err, context.Canceled):
		return AttemptWhyCancelled
	case errors.Is(err, ErrNoSpace):
		return AttemptWhyNoSpace
	case errors.Is(err, ErrPeer):
		return AttemptWhyByQEMU
	}
	return AttemptWhyNobodyKnows
}
