// SPDX-License-Identifier: MIT

package migbuf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
)

// fakeSide is one QEMU as far as a RAM sees it. Its answers to query-migrate come from the test.
type fakeSide struct {
	caps    map[string]bool
	params  map[string]any
	status  string
	migrate string // the answer to query-migrate
	said    []string
	fails   map[string]error
}

func newSide(status string) *fakeSide {
	return &fakeSide{
		caps: map[string]bool{"events": false, "pause-before-switchover": false, "auto-converge": true, "postcopy-ram": false},
		params: map[string]any{"max-bandwidth": json.Number("18446744073709551615"), "downtime-limit": 333.0, "cpu-throttle-initial": 20.0,
			"cpu-throttle-increment": 10.0, "max-cpu-throttle": 99.0, "cpu-throttle-tailslow": true, "tls-creds": ""},
		status: status, migrate: `{}`, fails: map[string]error{},
	}
}

func (s *fakeSide) Run(_ context.Context, command string, args any, resp any) error {
	if err := s.fails[command]; err != nil {
		delete(s.fails, command)
		return err
	}
	var reply any = struct{}{}
	switch command {
	case "query-migrate-capabilities":
		var list []any
		for name, state := range s.caps {
			list = append(list, map[string]any{"capability": name, "state": state})
		}
		reply = list
	case "query-migrate-parameters":
		reply = s.params
	case "query-migrate":
		reply = json.RawMessage(s.migrate)
	case "query-status":
		reply = map[string]any{"status": s.status, "running": s.status == "running"}
	case "migrate-set-capabilities":
		var a struct {
			Capabilities []struct {
				Capability string
				State      bool
			}
		}
		_ = json.Unmarshal(args.(json.RawMessage), &a)
		for _, c := range a.Capabilities {
			s.caps[c.Capability] = c.State
		}
	case "migrate-set-parameters":
		d := json.NewDecoder(strings.NewReader(string(args.(json.RawMessage))))
		d.UseNumber()
		var a map[string]any
		_ = d.Decode(&a)
		for name, value := range a {
			s.params[name] = value
		}
	case "migrate":
		s.migrate = `{"status": "setup"}`
	}
	if !strings.HasPrefix(command, "query-") {
		s.said = append(s.said, command)
	}
	text, _ := json.Marshal(map[string]any{"return": reply})
	if resp == nil {
		return nil
	}
	return json.Unmarshal(text, resp)
}

func (s *fakeSide) settings() string {
	return fmt.Sprint(s.caps, s.params)
}

// A guest moves, and both sides have what they had; a process that died on the way is followed by another.
func TestRAMMovesAGuest(t *testing.T) {
	ctx := context.Background()
	source, target := newSide("running"), newSide("inmigrate")
	before := [2]string{source.settings(), target.settings()}
	r, err := NewRAM(Agreement{ThrottleMostPercent: 60}, nil)
	must(t, err)
	pump := func(wish error) {
		t.Helper()
		must(t, wish)
		must(t, r.Pump(ctx, source, target))
	}
	state := func(want RAMState) {
		t.Helper()
		if info, err := r.Info(); err != nil || info.State != want {
			t.Fatal(info.State, want, err)
		}
	}
	pump(r.Learn())
	pump(r.Start("unix:/s", "unix:/t"))
	if !source.caps["auto-converge"] || fmt.Sprint(source.params["max-cpu-throttle"]) != "1" || target.caps["postcopy-ram"] {
		t.Error(source.settings(), target.settings())
	}
	source.migrate = `{"status": "active", "total-time": 100, "ram": {"dirty-sync-count": 1, "remaining": 5, "total": 9, "mbps": -1}}`
	pump(r.Look(1000))
	state(RAMStateRunning)
	text, err := r.Save()
	must(t, err)
	must(t, r.Close())
	r, err = LoadRAM(text)
	must(t, err)
	pump(nil)
	state(RAMStateRunning)
	source.migrate, source.status = strings.Replace(source.migrate, "active", "pre-switchover", 1), "finish-migrate"
	must(t, r.Event(RAMSideSource, RAMEventMigration, "pre-switchover", 2000))
	pump(nil)
	state(RAMStateSwitch)
	pump(r.Switch())
	source.migrate, source.status = `{"status": "completed", "total-time": 900, "downtime": 12, "ram": {"transferred": 77}}`, "postmigrate"
	target.migrate, target.status = `{"status": "completed"}`, "running"
	pump(r.Look(3000))
	state(RAMStateMoved)
	attempt, err := r.Attempt("vm1")
	if err != nil || attempt.Outcome != AttemptOutcomeMoved || attempt.DowntimeMs != 12 || attempt.SetBytes != AttemptUnknown {
		t.Error(attempt, err)
	}
	pump(r.Restore())
	if now := [2]string{source.settings(), target.settings()}; !reflect.DeepEqual(before, now) {
		t.Error(before, now)
	}
	if said := strings.Join(source.said, " "); strings.Count(said, "migrate-continue") != 1 || strings.Contains(said, "cancel") {
		t.Error(said)
	}
}

// A migrate of which nobody heard is not sent again before QEMU is asked; a refusal is one.
func TestRAMOutcomes(t *testing.T) {
	ctx := context.Background()
	source, target := newSide("running"), newSide("inmigrate")
	r, err := NewRAM(DefaultAgreement(), nil)
	must(t, err)
	defer r.Close()
	must(t, r.Learn())
	must(t, r.Pump(ctx, source, target))
	must(t, r.Start("unix:/s", "unix:/t"))
	source.fails["migrate"] = errors.New("lost")
	if err := r.Pump(ctx, source, target); !errors.Is(err, ErrUnknown) || r.Outcome() != OutcomeUnknown {
		t.Error(err, r.Outcome())
	}
	source.migrate = `{"status": "active"}`
	must(t, r.Look(1000))
	must(t, r.Pump(ctx, source, target))
	if strings.Contains(strings.Join(source.said, " ")+" ", "migrate ") {
		t.Error(source.said)
	}
	must(t, r.Cancel())
	source.fails["migrate_cancel"] = Refused(errors.New("no"))
	if err := r.Pump(ctx, source, target); !errors.Is(err, ErrPeer) {
		t.Error(err)
	}
	if err := r.Pump(ctx, nil, nil); err != nil { // nothing is sent after that
		t.Error(err)
	}
	if err := r.Restore(); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	must(t, r.Close())
	if _, err := r.Info(); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if _, err := NewRAM(Agreement{ThrottleMostPercent: 100}, nil); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
}

func TestRAMFormulas(t *testing.T) {
	if f, err := RAMStationary(2); err != nil || math.Abs(f-0.796812130) > 1e-9 {
		t.Error(f, err)
	}
	if w, r, err := RAMEstimate(1, 90e6, 10, 400e6); err != nil || math.Round(w) != 447313695 || math.Round(r) != 100487247 {
		t.Error(w, r, err)
	}
	g := NewRAMGuest()
	g.LinkBytesPerS, g.SetBytes, g.RateBytesPerS = 117e6, 1e9, 200e6
	if ms, err := g.LeastMs(); err != nil || math.Abs(ms-5993.384) > 1e-3 {
		t.Error(ms, err)
	}
	if p, err := g.Throttle(500); err != nil || p != 40 {
		t.Error(p, err)
	}
	g.LeftBytes = 4e9
	if s, _, err := g.Finish(500); err != nil || !math.IsInf(s, 1) {
		t.Error(s, err)
	}
	if f, err := g.Forecast(Agreement{}); err != nil || f.Verdict == RAMVerdictYes || f.DowntimeMostMs != 550 {
		t.Error(f, err)
	}
	g = NewRAMGuest()
	g.LinkBytesPerS, g.SetBytes, g.RateBytesPerS, g.LeftBytes = 117e6, 30e6, 200e6, 30e6
	g.ElapsedS, g.LimitMs, g.Known, g.Rounds, g.NewRound = 36, 100, 1, 2, 1
	if d, err := g.Decide(Agreement{DeadlineMs: 216000}); err != nil || d.Action != RAMActionDowntime || d.LimitMs != 206 {
		t.Error(d, err)
	}
	order, ready, err := RAMOrder([]RAMTurn{{ID: 1, Seconds: 40, HeldBytes: 2e9, Ready: 1}, {ID: 2, Seconds: 10, HeldBytes: 1e9, Ready: 1},
		{ID: 3, Seconds: 20, HeldBytes: 4e9, Ready: 1}, {ID: 4, Seconds: 5, HeldBytes: 2e8}})
	if err != nil || ready != 3 || !reflect.DeepEqual(order, []uint32{2, 1, 0, 3}) {
		t.Error(order, ready, err)
	}
	if err := (Agreement{MostMs: 10}).Check(); !errors.Is(err, ErrInvalid) { // less than is wanted to begin with
		t.Error(err)
	}
	var rounds RAMRounds
	report := func(sync, pages uint64) *RAMReport {
		var r RAMReport
		must(t, json.Unmarshal([]byte(fmt.Sprintf(`{"status": "active", "ram": {"dirty-sync-count": %d, "page-size": 4096, "dirty-pages-rate": %d}}`, sync, pages)), &r))
		return &r
	}
	for i, step := range []struct{ ms, sync, pages uint64 }{{0, 1, 0}, {5000, 2, 9000}, {8850, 3, 4081}} {
		if ended, err := rounds.Update(step.ms, report(step.sync, step.pages)); err != nil || ended != (i > 0) {
			t.Error(i, ended, err)
		}
	}
	if got := rounds.Round[rounds.Count-1]; got.SpanS != 3.85 || math.Abs(got.DirtyBytes-64355737.6) > 0.1 {
		t.Error(got)
	}
	if _, _, known, err := rounds.Guest(); err != nil || !known {
		t.Error(known, err)
	}
	o := DefaultRAMOptions()
	p := NewPrior(1 << 30)
	p.Attempts, p.Encoding, p.SetBytes = 3, 0.05, 100e6
	if err := o.Choose(Agreement{}, p, RAMVerdictUnknown, 1e8, 64<<30); err != nil || o.XBZRLECacheBytes != 134217728 {
		t.Error(o, err)
	}
}

// The 24th knows that it is the 24th, and how the last one ended.
func TestHistory(t *testing.T) {
	history := ""
	for i := 0; i < 24; i++ {
		a := NewAttempt()
		a.ID, a.AtS, a.Outcome, a.Phase, a.Why = "vm1", uint64(1000+i), AttemptOutcomeMoved, AttemptPhaseTarget, AttemptWhyDone
		a.SetBytes = 5e8
		if i == 23 {
			a.Outcome, a.Phase, a.Why = AttemptOutcomeFailed, AttemptPhaseRAM, AttemptWhyNoConvergence
		}
		var err error
		history, err = HistoryAppend(history, a)
		must(t, err)
	}
	if said, err := HistoryDescribe(history, "vm1"); err != nil || said != "attempt 24 of vm1: 23 moved, the last failed in ram, no convergence" {
		t.Error(said, err)
	}
	last, there, err := HistoryRead(history, 0)
	if err != nil || !there || last.Number != 24 || last.EarlierMoved != 23 || last.Why != AttemptWhyNoConvergence || last.SetBytes != 5e8 {
		t.Error(last, there, err)
	}
	if _, there, err := HistoryRead(history, 24); there || err != nil {
		t.Error(there, err)
	}
	if both, err := HistoryMerge(history, history); err != nil || both != history {
		t.Error(both, err)
	}
	if p, err := HistoryPrior(history, 2000, NewPrior(4<<30)); err != nil || p.Attempts != 24 || p.Same != 1 || p.SetMost <= p.SetBytes {
		t.Error(p, err)
	}
	if _, err := HistoryAppend("", Attempt{ID: strings.Repeat("x", 65)}); !errors.Is(err, ErrTooBig) {
		t.Error(err)
	}
}
