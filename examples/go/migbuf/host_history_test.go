// SPDX-License-Identifier: MIT

package migbuf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// shelf is where a daemon keeps histories.
type shelf struct {
	mu    sync.Mutex
	texts map[string]string
	fails error // what KeepHistory returns
	once  bool  // and only once
	asked int   // how often it was asked to keep one
}

func (s *shelf) History(_ context.Context, name string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.texts[name], nil
}

func (s *shelf) KeepHistory(_ context.Context, name, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	err := s.fails
	if err == nil {
		s.texts[name] = text
	}
	if s.once {
		s.fails = nil
	}
	return err
}

func (s *shelf) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *shelf) lines(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.texts[name], "\n")
}

// newest is the last attempt of a VM once there are so many.
func (s *shelf) newest(d *daemon, name string, lines int) Attempt {
	d.t.Helper()
	d.waitFor(fmt.Sprint(lines, " lines"), func() bool { return s.lines(name) >= lines })
	text, err := s.History(background, name)
	must(d.t, err)
	a, there, err := HistoryRead(text, 0)
	if err != nil || !there || s.lines(name) != lines {
		d.t.Fatalf("%v %v: %q", there, err, text)
	}
	return a
}

func withShelf(t *testing.T, capacity uint64) (*daemon, *shelf) {
	d, s := newDaemon(t, capacity), &shelf{texts: map[string]string{}}
	d.config.History, d.config.Name = s, "host1"
	return d, s
}

// earlier is the history of a VM whose n attempts all moved, and measured this.
func earlier(t *testing.T, n int, measured AttemptNumbers) (text string) {
	for i := 0; i < n; i++ {
		a := NewAttempt()
		a.AttemptNumbers = measured
		a.ID, a.AtS, a.Outcome, a.Phase, a.Why = "vm1", uint64(time.Now().Unix())-100+uint64(i), AttemptOutcomeMoved, AttemptPhaseTarget, AttemptWhyDone
		var err error
		text, err = HistoryAppend(text, a)
		must(t, err)
	}
	return text
}

// The 23rd migration and the 24th, of which the daemon's administrator hears.
func TestHostHistory(t *testing.T) {
	d, s := withShelf(t, 400<<20)
	s.texts["vm1"] = earlier(t, 22, NewAttempt().AttemptNumbers)
	h := d.open()
	v := newMove(t, "vm1")
	must(t, v.send(background, h))
	if a := s.newest(d, "vm1", 23); a.Outcome != AttemptOutcomeMoved || a.Phase != AttemptPhaseTarget || a.Why != AttemptWhyDone || a.Number != 23 ||
		a.ID != "vm1" || a.From != "host1" || a.DiskBytes != gib || a.DiskMs == AttemptUnknown || a.MirrorMs == AttemptUnknown || a.RAMMs != AttemptUnknown {
		t.Errorf("%+v", a)
	}
	v = newMove(t, "vm1")
	one := v.vm()
	one.To = "host2"
	m, err := h.Migrate(background, one)
	must(t, err)
	must(t, m.Mirror(background))
	must(t, m.Memory(background))
	if err := m.Because(0); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
	must(t, m.Because(AttemptWhyNoConvergence))
	must(t, m.GiveUp(background))
	if a := s.newest(d, "vm1", 24); a.To != "host2" || a.Outcome != AttemptOutcomeFailed {
		t.Errorf("%+v", a)
	}
	said, err := h.DescribeHistory(background, "vm1")
	if want := "attempt 24 of vm1: 23 moved, the last failed in ram, no convergence"; err != nil || said != want {
		t.Errorf("%q, %v", said, err)
	}
}

// Where it ended, and why, wherever that is.
func TestHostHistoryOfFailures(t *testing.T) {
	d, s := withShelf(t, 400<<20)
	h := d.open()
	lines := 0
	for _, c := range []struct {
		broken string
		ends   bool // its context, too
		phase  AttemptPhase
		want   AttemptOutcome
		why    AttemptWhy
	}{
		{"begun", false, AttemptPhaseBase, AttemptOutcomeFailed, AttemptWhyNobodyKnows},
		{"base", true, AttemptPhaseBase, AttemptOutcomeBack, AttemptWhyCancelled},
		{"mirror", false, AttemptPhaseMirror, AttemptOutcomeFailed, AttemptWhyNobodyKnows},
		{"memory", false, AttemptPhaseRAM, AttemptOutcomeFailed, AttemptWhyNobodyKnows},
	} {
		ctx, cancel := context.WithCancel(background)
		v := newMove(t, "vm1")
		v.at = func(step string) error {
			if step != c.broken {
				return nil
			}
			if c.ends {
				cancel()
			}
			return errBroken
		}
		if err := v.send(ctx, h); err != errBroken {
			t.Error(err)
		}
		lines++
		if a := s.newest(d, "vm1", lines); a.Phase != c.phase || a.Outcome != c.want || a.Why != c.why {
			t.Errorf("%+v: %v in %v, %v", c, a.Outcome, a.Phase, a.Why)
		}
		d.waitFor("the end", func() bool { return h.Member("vm1") == nil })
		cancel()
	}
	m, err := h.Migrate(background, newMove(t, "vm1").vm()) // what the daemon knows stands, however its context ended
	must(t, err)
	must(t, m.Because(AttemptWhyNoConvergence))
	ended, end := context.WithCancel(background)
	end()
	_ = m.GiveUp(ended)
	if a := s.newest(d, "vm1", lines+1); a.Outcome != AttemptOutcomeFailed || a.Why != AttemptWhyNoConvergence {
		t.Errorf("%v, %v", a.Outcome, a.Why)
	}
	big := newMove(t, "big").vm()
	big.Disks[0].Geometry.QueueBytes = 1 << 30
	if _, err := h.Migrate(background, big); !errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
	if a := s.newest(d, "big", 1); a.Phase != AttemptPhaseAdmission || a.Outcome != AttemptOutcomeRefused || a.Why != AttemptWhyNoSpace {
		t.Errorf("%v in %v, %v", a.Outcome, a.Phase, a.Why)
	}
	v := newMove(t, "twice") // that it migrates already says nothing of it
	m, _ = v.begun(h)
	if _, err := h.Migrate(background, newMove(t, "twice").vm()); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	v.q.merge()
	must(t, m.Finish(background))
	s.newest(d, "twice", 1)
}

// A first limit that QEMU refuses until the daemon gives up: it never began, and its line says so. Where nobody knows why
// it never began there is no line.
func TestHostHistoryOfFirstLimit(t *testing.T) {
	d, s := withShelf(t, 400<<20)
	d.config.Options.LagMs = 60000 // so long it is tried
	h := d.open()
	v := newMove(t, "vm1")
	refuse := func(yes bool) {
		for _, command := range []string{"object-add", "qom-set", "block_set_io_throttle"} {
			v.q.refuse(command, yes)
		}
	}
	refuse(true)
	ctx, cancel := context.WithCancel(background)
	came := make(chan error)
	go func() {
		_, err := h.Migrate(ctx, v.vm())
		came <- err
	}()
	d.waitFor("a refusal", func() bool { return h.Stats().Refused > 0 })
	cancel()
	if err := <-came; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	refuse(false)
	d.waitFor("the end", func() bool { return h.Member("vm1") == nil })
	must(t, isAsBefore(v.q))
	if a := s.newest(d, "vm1", 1); a.Phase != AttemptPhaseAdmission || a.Outcome != AttemptOutcomeRefused || a.Why != AttemptWhyCancelled {
		t.Errorf("%v in %v, %v", a.Outcome, a.Phase, a.Why)
	}

	v = newMove(t, "vm2")
	m, err := h.Migrate(background, v.vm())
	must(t, err)
	h.mu.Lock()
	m.past.why, m.past.at = whyOf(errNoAnswer), AttemptPhaseAdmission // as Migrate leaves it after such an error
	h.mu.Unlock()
	must(t, m.GiveUp(background))
	must(t, isAsBefore(v.q))
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.attempts) != 0 || s.lines("vm2") != 0 {
		t.Errorf("%v, %q", h.attempts, s.texts["vm2"])
	}
}

// What was refused is saved before its caller hears of it: another process keeps its line.
func TestHostHistoryOfRefusalLater(t *testing.T) {
	d, s := withShelf(t, 400<<20)
	s.fails = errBroken
	h := d.open()
	big := newMove(t, "big").vm()
	big.Disks[0].Geometry.QueueBytes = 1 << 30
	if _, err := h.Migrate(background, big); !errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
	d.dies(h)
	s.set(func() { s.fails = nil })
	d.open()
	if a := s.newest(d, "big", 1); a.Outcome != AttemptOutcomeRefused || a.Why != AttemptWhyNoSpace {
		t.Errorf("%v, %v", a.Outcome, a.Why)
	}
}

// A history that cannot be kept at first is kept later, by another process if need be, and once.
func TestHostHistoryLater(t *testing.T) {
	d, s := withShelf(t, 400<<20)
	s.fails = errBroken
	h := d.open()
	v := newMove(t, "vm1")
	must(t, v.send(background, h))
	d.waitFor("a second try", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.asked > 1 })
	text, err := os.ReadFile(d.config.State)
	must(t, err)
	d.dies(h)
	s.set(func() { s.fails = nil })
	h = d.open()
	s.newest(d, "vm1", 1)
	saved := func() bool { return len(d.attempts()) == 0 }
	d.waitFor("that this is saved", saved)
	must(t, h.Close())
	must(t, os.WriteFile(d.config.State, text, 0600)) // as if it had died before
	h = d.open()
	d.waitFor("that this is saved", saved)
	s.newest(d, "vm1", 1)

	s.set(func() { s.fails = ErrNotFound }) // it was deleted: nobody needs it
	must(t, newMove(t, "vm1").send(background, h))
	d.waitFor("that this is saved", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.attempts) == 0
	})
	s.newest(d, "vm1", 1)
}

// attempts are those that the state of a process has: ended, and not kept yet.
func (d *daemon) attempts() []pendingAttempt {
	d.t.Helper()
	var s hostState
	text, err := os.ReadFile(d.config.State)
	must(d.t, err)
	must(d.t, json.Unmarshal(text, &s))
	return s.Attempts
}

// Two lines of one VM wait. They are kept in the order in which they ended, also where the first try to keep the first fails; and
// once, also where the process dies when both are kept and the state does not say so yet.
func TestHostHistoryInOrder(t *testing.T) {
	d, s := withShelf(t, 400<<20)
	s.fails = errBroken
	h := d.open()
	for _, to := range []string{"host2", "host3"} {
		one := newMove(t, "vm1").vm()
		one.To = to
		m, err := h.Migrate(background, one)
		must(t, err)
		must(t, m.Finish(background))
	}
	text, err := os.ReadFile(d.config.State)
	must(t, err)
	if n := len(d.attempts()); n != 2 {
		t.Fatal(n, "lines wait")
	}
	d.dies(h)
	s.set(func() { s.once = true })
	for i := 0; i < 2; i++ {
		must(t, os.WriteFile(d.config.State, text, 0600)) // again as if it had died before
		h = d.open()
		d.waitFor("that this is saved", func() bool { return len(d.attempts()) == 0 })
		if a := s.newest(d, "vm1", 2); a.To != "host3" || a.Number != 2 {
			t.Errorf("%+v", a)
		}
		must(t, h.Close())
	}
}

// The next process knows how far it came. Of one whose QEMU is gone nobody knows, and nothing is written down.
func TestHostHistoryRestart(t *testing.T) {
	for _, gone := range []bool{false, true} {
		d, s := withShelf(t, 400<<20)
		h := d.open()
		v := newMove(t, "vm1")
		d.knows("vm1", v.q)
		one := v.vm()
		one.ID, one.To = "0b2c", "host2"
		m, err := h.Migrate(background, one)
		must(t, err)
		must(t, m.Mirror(background))
		must(t, m.Memory(background))
		must(t, h.save())
		d.dies(h)
		if gone {
			d.knows("vm1", nil)
		}
		h = d.open()
		d.waitFor("the end", func() bool { return h.Member("vm1") == nil }) // it is on no overlay
		must(t, h.Close())
		if gone {
			if s.lines("vm1") != 0 {
				t.Error(s.texts["vm1"])
			}
			continue
		}
		h = d.open()
		if a := s.newest(d, "vm1", 1); a.ID != "0b2c" || a.To != "host2" || a.Phase != AttemptPhaseRAM || a.Outcome != AttemptOutcomeFailed {
			t.Errorf("%+v", a)
		}
	}
}

// What earlier attempts measured is believed, unless the daemon knows better.
func TestHostPrior(t *testing.T) {
	d, s := withShelf(t, 400<<20)
	measured := NewAttempt().AttemptNumbers
	measured.WriteBytesPerS = 80e6
	s.texts["vm1"] = earlier(t, 3, measured)
	s.texts["other"] = earlier(t, 3, NewAttempt().AttemptNumbers) // which measured nothing
	h := d.open()
	for _, c := range []struct {
		name       string
		told, want uint64
	}{{"vm1", 0, 40e6}, {"vm1", 7e6, 7e6}, {"other", 0, 0}, {"new", 0, 0}} {
		v := newMove(t, c.name)
		one := v.vm()
		one.Migration.RateBytesPerS = c.told
		m, err := h.Migrate(background, one)
		must(t, err)
		if got := m.migration.RateBytesPerS; math.Abs(float64(got)-float64(c.want)) > 1000 {
			t.Errorf("%s: %d, not %d", c.name, got, c.want)
		}
		must(t, m.GiveUp(background))
	}
}

// Writes are counted while no limit holds the guest back, where there is such a time.
func TestHostWrote(t *testing.T) {
	for _, c := range []struct {
		free, all rate
		want      uint64
	}{{rate{}, rate{}, AttemptUnknown}, {rate{90e6, 3}, rate{100e6, 10}, 30e6}, {rate{1e6, 0.5}, rate{100e6, 10}, 10e6}} {
		m := newMember(&Host{}, "vm1", 1)
		m.past.free, m.past.all = c.free, c.all
		if a := m.attempt(AttemptOutcomeMoved, AttemptWhyDone); a.WriteBytesPerS != c.want {
			t.Error(c, a.WriteBytesPerS)
		}
	}
	d, s := withShelf(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, file := v.begun(h)
	size := int64(1 << 20)
	d.waitFor("a second of writes", func() bool {
		if size < 20<<20 {
			_, err := file.WriteAt(make([]byte, 65536), size)
			must(t, err)
			size += 65536
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		return m.past.all.seconds > 1
	})
	must(t, m.Mirror(background))
	must(t, file.Truncate(0)) // what counts is the most, not the last
	d.ticksOn(h, 3)
	v.q.merge()
	must(t, m.Finish(background))
	if a := s.newest(d, "vm1", 1); a.PeakBytes < 1<<20 || a.GrowthPpm == AttemptUnknown || a.GrowthPpm > 2000000 || a.PeakBytes > 30<<20 || a.WriteBytesPerS < 1000 || a.WriteBytesPerS > 20<<20 {
		t.Errorf("%+v", a)
	}
}

// While a limit holds the guest back, or it stands, its writes tell nothing of what it would write.
func TestHostWroteWhileHeld(t *testing.T) {
	b, err := NewBuffer(400<<20, nil)
	must(t, err)
	defer b.Close()
	must(t, b.Add(NewMigration(1), vm(gib)))
	m := newMember(&Host{buffer: b}, "vm1", 1)
	m.id, m.nodes = 1, []string{"n0"}
	const force = 100 * 65536
	now, written := time.Second, uint64(0)
	second := func(bytes uint64, runs bool) { // after it so many bytes more are written
		must(t, b.Resync(1, units(100), runs))
		now, written = now+time.Second, written+bytes
		m.wrote(now, &look{overlaid: []bool{true}, bytes: []uint64{written}}, 0)
	}
	second(0, true)
	for _, c := range []struct {
		bytes     uint64
		runs      bool
		free, all float64 // seconds that count
	}{{force / 2, true, 1, 1}, {force * 9 / 10, true, 1, 2}, {0, false, 1, 3}, {force / 4, true, 2, 4}} {
		second(c.bytes, c.runs)
		if p := &m.past; p.free.seconds != c.free || p.all.seconds != c.all || p.all.bytes != float64(written) {
			t.Errorf("%+v: %+v of %+v", c, p.free, p.all)
		}
	}
	if m.past.free.bytes != force*3/4 {
		t.Errorf("%+v", m.past.free)
	}
}

// What reports say of one that fails while nobody runs: by post-copy, with XBZRLE, and it had no downtime that counts.
func TestHostAttempt(t *testing.T) {
	for _, c := range []struct {
		status   string
		postcopy uint64
		drained  bool // the mirror has ended
		outcome  AttemptOutcome
		at       AttemptPhase
		posted   bool
		downtime uint64
	}{
		{"active", 0, false, AttemptOutcomeFailed, AttemptPhaseRAM, false, AttemptUnknown},
		{"active", 0, true, AttemptOutcomeFailed, AttemptPhaseSwitch, false, AttemptUnknown},
		{"active", 4096, false, AttemptOutcomeFailed, AttemptPhaseRAM, true, AttemptUnknown},
		{"postcopy-active", 0, false, AttemptOutcomeMoved, AttemptPhaseTarget, true, 71},
		{"pre-switchover", 0, false, AttemptOutcomeFailed, AttemptPhaseSwitch, false, AttemptUnknown},
		{"device", 0, false, AttemptOutcomeBack, AttemptPhaseSwitch, false, AttemptUnknown},
	} {
		m := newMember(&Host{}, "vm1", 1)
		m.past.id = "vm1"
		m.reached(AttemptPhaseRAM)
		var r RAMReport
		must(t, json.Unmarshal([]byte(fmt.Sprintf(`{"status": %q, "total-time": 6000, "downtime": 71,
			"xbzrle-cache": {"cache-size": 65536, "bytes": 40960, "pages": 30, "cache-miss": 1, "cache-miss-rate": 0, "encoding-rate": 0, "overflow": 10},
			"ram": {"dirty-sync-count": 1, "page-size": 4096, "dirty-pages-rate": 0, "transferred": 9, "total": 9, "duplicate": 0, "postcopy-bytes": %d}}`,
			c.status, c.postcopy)), &r))
		must(t, m.ram(0, &r))
		if c.drained {
			m.reached(AttemptPhaseSwitch)
		}
		a := m.attempt(c.outcome, AttemptWhyNobodyKnows)
		if a.Phase != c.at || a.PostCopy != c.posted || a.DowntimeMs != c.downtime || a.EncodingPpm != 500000 { // 10 pages' bytes and 10 pages, of 40
			t.Errorf("%+v: %+v", c, a)
		}
	}
}

func ramReport(t *testing.T, status string, sync, pages, sent uint64) *RAMReport {
	var r RAMReport
	must(t, json.Unmarshal([]byte(fmt.Sprintf(`{"status": %q, "total-time": 6000, "cpu-throttle-percentage": 20, "downtime": 71, "ram": {
		"dirty-sync-count": %d, "page-size": 4096, "dirty-pages-rate": %d, "transferred": %d, "total": 2000000000, "duplicate": 100000}}`,
		status, sync, pages, sent)), &r))
	return &r
}

// A guest with 100 MB in use that touches 50 MB/s: what its reports tell is what the next attempt knows.
func TestHostRAM(t *testing.T) {
	d, s := withShelf(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, err := h.Migrate(background, v.vm())
	must(t, err)
	must(t, m.Memory(background))
	for _, step := range []struct{ ms, sync, pages, sent uint64 }{{0, 1, 0, 0}, {5000, 2, 4482, 600e6}, {6000, 3, 9606, 700e6}} {
		r := ramReport(t, "active", step.sync, step.pages, step.sent)
		r.ThrottlePercent = 0
		must(t, m.ram(step.ms, r))
	}
	if err := m.ram(5999, ramReport(t, "active", 4, 1, 1)); err == nil {
		t.Error("time goes back")
	}
	must(t, m.ram(6100, ramReport(t, "completed", 3, 9606, 710e6)))
	if err := m.RAM(nil); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	v.q.merge()
	must(t, m.Finish(background))
	if err := m.RAM(ramReport(t, "active", 9, 9, 9)); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	a := s.newest(d, "vm1", 1)
	near := func(x uint64, y float64) bool { return math.Abs(float64(x)-y) < 0.02*y }
	if !near(a.SetBytes, 100e6) || !near(a.DirtyBytesPerS, 50e6) || !near(a.LinkBytesPerS, 100e6) || a.RAMMs != 6000 || a.DowntimeMs != 71 ||
		a.SentBytes != 710e6 || a.Rounds != 2 || a.ThrottlePct != 20 || a.RAMBytes != 2000000000-100000*4096 || a.PostCopy {
		t.Errorf("%+v", a)
	}
}

// What to set before memory is sent: nothing is needed, a longer stop, a throttle; and where nothing is known nothing but what
// was agreed.
func TestHostPlanMemory(t *testing.T) {
	d, s := withShelf(t, 400<<20)
	h := d.open()
	for _, c := range []struct {
		what         string
		set, touches uint64
		action       RAMAction
		limit, slow  uint32
		verdict      RAMVerdict
	}{
		{"calm", 30e6, 20e6, RAMActionKeep, 100, 0, RAMVerdictYes},
		{"stubborn", 400e6, 300e6, RAMActionThrottle, 500, 80, RAMVerdictYes},
		{"hopeless", 4000e6, 3000e6, RAMActionWait, 500, 0, RAMVerdictNo},
		{"new", 0, 0, RAMActionWait, 100, 0, RAMVerdictUnknown},
	} {
		if c.set != 0 {
			measured := NewAttempt().AttemptNumbers
			measured.SetBytes, measured.DirtyBytesPerS = c.set, c.touches
			s.set(func() { s.texts["vm1"] = earlier(t, 32, measured) })
		} else {
			s.set(func() { delete(s.texts, "vm1") })
		}
		v := newMove(t, "vm1")
		one := v.vm()
		one.RAMBytes, one.Migration.FlowBytesPerS = 4e9, 117e6
		m, err := h.Migrate(background, one)
		must(t, err)
		plan, err := m.PlanMemory(Agreement{}, 0)
		if err != nil || plan.Known != (c.set != 0) || plan.Action != c.action || plan.LimitMs != c.limit || plan.ThrottlePercent != c.slow || plan.Forecast.Verdict != c.verdict {
			t.Errorf("%s: %+v %v", c.what, plan, err)
		}
		first := uint32(1)
		if c.slow != 0 {
			first = c.slow
		}
		if p := plan.Parameters(); p["downtime-limit"] != c.limit || p["max-cpu-throttle"] != uint32(80) || p["cpu-throttle-initial"] != first || len(p) != 3 {
			t.Error(c.what, p)
		}
		a := DefaultAgreement()
		a.ThrottleMostPercent, a.Postcopy = 0, 1
		plan, err = m.PlanMemory(a, 0)
		if p, caps := plan.Parameters(), plan.Capabilities(); err != nil || p["max-cpu-throttle"] != uint32(1) || caps["auto-converge"] || !caps["postcopy-ram"] {
			t.Error(c.what, plan, err)
		}
		a.WantMs = 9999
		if _, err := m.PlanMemory(a, 0); !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
		must(t, m.GiveUp(background))
		d.waitFor("its line", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.attempts) == 0 })
	}
}

// Where nobody says what a migration may have of its link, what the link carried counts. What helps is chosen by it.
func TestHostPlanMemoryByItsLink(t *testing.T) {
	d, s := withShelf(t, 400<<20)
	measured := NewAttempt().AttemptNumbers
	measured.SetBytes, measured.DirtyBytesPerS = 400e6, 300e6
	s.texts["vm1"] = earlier(t, 32, measured)
	h := d.open()
	one := newMove(t, "vm1").vm()
	one.RAMBytes = 4e9
	m, err := h.Migrate(background, one)
	must(t, err)
	if plan, err := m.PlanMemory(Agreement{}, 0); err != nil || plan.Known || plan.Options != DefaultRAMOptions() {
		t.Errorf("of a link of which nobody knows: %+v %v", plan, err)
	}
	d.waitFor("its link", func() bool { // nothing is sent here, so what is known of it stays
		h.mu.Lock()
		defer h.mu.Unlock()
		if l := h.links[0]; l != nil {
			l.speed = 5e9
		}
		return h.links[0] != nil
	})
	plan, err := m.PlanMemory(Agreement{}, 0)
	if err != nil || !plan.Known || plan.Action != RAMActionKeep || plan.Options.MultifdChannels != 5 || !plan.Capabilities()["multifd"] {
		t.Errorf("%+v %v", plan, err)
	}
	must(t, m.GiveUp(background))
}

// Without a store, and without a Host, all of it does nothing.
func TestHostNoHistory(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	one := v.vm()
	one.RAMBytes = 2 << 30
	m, err := h.Migrate(background, one)
	must(t, err)
	var none *Host
	for _, h := range []*Host{h, none} {
		if said, err := h.DescribeHistory(background, "vm1"); said != "" || err != nil {
			t.Error(said, err)
		}
	}
	var nobody *Member
	for _, c := range []struct {
		m     *Member
		prior Prior
	}{{m, NewPrior(2 << 30)}, {nobody, NewPrior(1 << 30)}} {
		plan, err := c.m.PlanMemory(Agreement{}, 1<<30)
		if err != nil || plan.Known || plan.LimitMs != 100 || plan.Action != RAMActionWait || c.m.Prior() != c.prior {
			t.Error(plan, c.m.Prior(), err)
		}
		must(t, c.m.Because(AttemptWhyPeerGone))
		must(t, c.m.RAM(ramReport(t, "active", 1, 1, 1)))
	}
	must(t, m.GiveUp(background))
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.attempts) != 0 {
		t.Error(h.attempts)
	}
}
