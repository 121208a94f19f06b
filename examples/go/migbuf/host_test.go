// SPDX-License-Identifier: MIT

package migbuf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// daemon is one with migrations: a volume, a state, its QEMUs by the names of their VMs.
type daemon struct {
	t      *testing.T
	config HostConfig
	mu     sync.Mutex
	qemus  map[string]Monitor
}

func newDaemon(t *testing.T, capacity uint64) *daemon {
	d := &daemon{t: t, qemus: map[string]Monitor{}}
	dir := t.TempDir()
	options := DefaultBufferOptions()
	options.IntervalMs, options.LagMs, options.LateFactorPercent = 20, 400, 1000
	d.config = HostConfig{Volume: dir, State: filepath.Join(t.TempDir(), "state"), CapacityBytes: capacity, Options: &options,
		Log: logTo{t}, Monitor: func(_ context.Context, name string) (Monitor, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if m := d.qemus[name]; m != nil {
				return m, nil
			}
			return nil, ErrNotFound
		}}
	return d
}

func (d *daemon) knows(name string, m Monitor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.qemus[name] = m
}

// open has no goroutine left when it was closed.
func (d *daemon) open() *Host {
	d.t.Helper()
	before := runtime.NumGoroutine()
	h, err := OpenHost(background, d.config)
	must(d.t, err)
	d.t.Cleanup(func() {
		must(d.t, h.Close())
		must(d.t, h.Close())
		if !comes(func() bool { return runtime.NumGoroutine() <= before }) {
			text := make([]byte, 1<<20)
			d.t.Errorf("goroutines are left: %s", text[:runtime.Stack(text, true)])
		}
	})
	return h
}

// dies leaves everything as a process does that is killed.
func (d *daemon) dies(h *Host) {
	d.t.Helper()
	text, err := os.ReadFile(d.config.State)
	must(d.t, err)
	must(d.t, h.Close())
	must(d.t, os.WriteFile(d.config.State, text, 0600))
}

func (d *daemon) members() []memberState {
	d.t.Helper()
	var s hostState
	text, err := os.ReadFile(d.config.State)
	must(d.t, err)
	must(d.t, json.Unmarshal(text, &s))
	return s.Members
}

type logTo struct{ t *testing.T }

func (l logTo) Debug(msg string, args ...any) {}
func (l logTo) Info(msg string, args ...any)  {}
func (l logTo) Warn(msg string, args ...any)  {}
func (l logTo) Error(msg string, args ...any) { l.t.Error(msg, args) }

const wait = time.Minute // for an event, on a busy machine

// comes waits for an event.
func comes(f func() bool) bool {
	for deadline := time.Now().Add(wait); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

func (d *daemon) waitFor(what string, f func() bool) {
	d.t.Helper()
	if !comes(f) {
		d.t.Fatal("it does not come: ", what)
	}
}

// move is one migration of a daemon whose function sends a VM: the order in which Incus does it.
type move struct {
	t       *testing.T
	name    string
	q       *fakeQEMU
	monitor Monitor
	link    uint64
	dir     string                  // where an overlay is without a Host
	at      func(step string) error // after each step
	moved   bool
	merged  bool
	back    error // what GiveUp returned
}

var errBroken = errors.New("the other host is gone")

func newMove(t *testing.T, name string) *move {
	q := newQEMU(hostOwn)
	return &move{t: t, name: name, q: q, monitor: q, dir: t.TempDir(), at: func(string) error { return nil }}
}

func (v *move) vm() HostVM {
	return HostVM{Name: v.name, Monitor: v.monitor, Disks: []HostDisk{{"n0", vm(gib)[0]}}, Migration: Migration{Link: v.link}}
}

func (v *move) send(ctx context.Context, h *Host) (err error) {
	m, err := h.Migrate(ctx, v.vm())
	if err != nil {
		return err
	}
	defer func() { v.back = m.GiveUp(ctx) }()
	if err = v.at("begun"); err != nil {
		return err
	}
	file, err := v.overlay(m)
	if err != nil {
		return err
	}
	defer file.Close()
	if err = m.Overlay(ctx, 0, file); err != nil {
		return err
	}
	if h != nil && v.q.inForce().Group == hostOwn.Group {
		v.t.Errorf("%s: an overlay, and no limit: %+v", v.name, v.q.inForce())
	}
	if err = v.q.snapshot("n0_snap", file); err != nil {
		return err
	}
	defer func() {
		if !v.moved {
			v.merge(m)
		}
	}()
	for sent := uint64(0); sent <= gib; sent += gib / 8 { // the storage driver copies, the guest writes
		if err = m.Sent(sent); err != nil {
			return err
		}
		if _, err = file.WriteAt(make([]byte, 65536), int64(sent/8)); err != nil {
			return err
		}
	}
	if err = v.at("base"); err != nil {
		return err
	}
	if err = m.Mirror(ctx); err != nil {
		return err
	}
	if err = m.Remaining(65536); err != nil {
		return err
	}
	if err = v.at("mirror"); err != nil {
		return err
	}
	if err = m.Memory(ctx); err != nil {
		return err
	}
	if err = m.Drained(ctx, 1); err != nil {
		return err
	}
	if err = v.at("memory"); err != nil {
		return err
	}
	if err = m.Drained(ctx, 0); err != nil {
		return err
	}
	v.moved = true
	v.q.merge() // QEMU ends, and its files with it
	return m.Finish(ctx)
}

func (v *move) overlay(m *Member) (*os.File, error) {
	f, err := os.OpenFile(m.Path(filepath.Join(v.dir, "overlay")), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0600)
	if err == nil {
		err = os.Remove(f.Name())
	}
	return f, err
}

// merge is the daemon's commit, which does not end with the way there.
func (v *move) merge(m *Member) {
	err := m.Merge(background, func(context.Context) error { return v.at("commit") }, func(context.Context) error {
		if m != nil && v.q.runs() {
			v.t.Errorf("%s: the commit is completed under a running guest", v.name)
		}
		v.q.merge()
		return v.at("complete")
	})
	if err != nil {
		v.t.Errorf("%s: %v", v.name, err)
	}
	if !v.q.runs() {
		v.t.Errorf("%s: the guest stands after the commit", v.name)
	}
	v.merged = true
}

// All leave, and nothing is left of them.
func TestHost(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	var wait sync.WaitGroup
	moves := make([]*move, 4)
	for i := range moves {
		moves[i] = newMove(t, fmt.Sprint("vm", i))
		if i%2 == 1 {
			moves[i].monitor = FromRunner(newIncus(t, moves[i].q, wallClock{}), refusedByQEMU)
		}
		wait.Add(1)
		go func(v *move) {
			defer wait.Done()
			if err := v.send(background, h); err != nil || v.back != nil {
				t.Error(v.name, err, v.back)
			}
		}(moves[i])
	}
	wait.Wait()
	s := h.Stats()
	if s.Members != 0 || s.Waiting != 0 || s.Decisions < 4 || s.Refused != 0 || len(d.members()) != 0 {
		t.Errorf("%+v, %v", s, d.members())
	}
	if stats, err := h.Buffer().Stats(); err != nil || stats.Migrations != 0 {
		t.Errorf("%+v %v", stats, err)
	}
}

// Where migbuf is not configured, the same function does what it did without.
func TestHostNil(t *testing.T) {
	h, err := OpenHost(background, HostConfig{})
	if h != nil || err != nil {
		t.Fatal(h, err)
	}
	for _, broken := range []string{"", "base", "memory"} {
		v := newMove(t, "vm1")
		v.at = func(step string) error {
			if step == broken {
				return errBroken
			}
			return nil
		}
		if err := v.send(background, h); (err != nil) != (broken != "") || v.moved == (broken != "") || v.merged != (broken != "") {
			t.Error(err, v.moved, v.merged)
		}
		if v.q.count() != 0 {
			t.Error(v.q.said)
		}
	}
	var m *Member
	if h.Member("vm1") != nil || h.Buffer() != nil || h.Stats() != (HostStats{}) || m.Path("/a/b") != "/a/b" || m.GiveUp(background) != nil {
		t.Error("a nil one does something")
	}
	if told, err := h.TellHostLimits(background, "vm1", "n0", ThrottleConfig{}); told || err != nil {
		t.Error(told, err)
	}
	if err := m.Merge(background, func(context.Context) error { return errBroken }, nothing); err != errBroken {
		t.Error(err)
	}
	must(t, h.Close())
}

// Wherever it is given up, the guest's writes are merged while it stands, and afterwards all is as it was.
func TestHostGivenUp(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	for _, broken := range []string{"begun", "base", "mirror", "memory"} {
		for _, ended := range []bool{false, true} { // the context, too
			ctx, cancel := context.WithCancel(background)
			v := newMove(t, "vm1")
			v.at = func(step string) error {
				if step != broken {
					return nil
				}
				if ended {
					cancel()
				}
				return errBroken
			}
			if err := v.send(ctx, h); err != errBroken || v.moved || v.merged != (broken != "begun") {
				t.Error(broken, err, v.moved, v.merged)
			}
			if v.back != nil && !(ended && errors.Is(v.back, context.Canceled)) {
				t.Error(broken, v.back)
			}
			d.waitFor("the end", func() bool { return h.Member("vm1") == nil && len(d.members()) == 0 })
			if err := isAsBefore(v.q); err != nil {
				t.Error(broken, err)
			}
			cancel()
		}
	}
}

// A guest that somebody else has stopped is not let run by a commit.
func TestHostAnotherStop(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, err := h.Migrate(background, v.vm())
	must(t, err)
	must(t, v.q.carryOut("stop", nil, nil))
	must(t, m.Merge(background, nothing, nothing))
	must(t, m.GiveUp(background))
	if v.q.runs() {
		t.Error(v.q.said)
	}
}

func nothing(context.Context) error { return nil }

// begun is a migration whose overlay is on top.
func (v *move) begun(h *Host) (*Member, *os.File) {
	v.t.Helper()
	m, err := h.Migrate(background, v.vm())
	must(v.t, err)
	file, err := v.overlay(m)
	must(v.t, err)
	v.t.Cleanup(func() { file.Close() })
	must(v.t, m.Overlay(background, 0, file))
	must(v.t, v.q.snapshot("n0_snap", file))
	_, err = file.WriteAt(make([]byte, 1<<20), 0)
	must(v.t, err)
	return m, file
}

func (h *Host) used() uint64 {
	stats, _ := h.buffer.Stats()
	return stats.UsedBytes
}

// A commit that did not do what it says, and a daemon that believes it: the overlay grows, so the limits stay. When it is
// gone after all, they go by themselves.
func TestHostOverlayOnTop(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, file := v.begun(h)
	d.waitFor("its size", func() bool { return h.used() >= 1<<20 })
	d.waitFor("the end of the snapshot's drain", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return m.drains == 3
	})
	if err := m.Merge(background, nothing, nothing); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	d.waitFor("the guest, for there is room", v.q.runs)
	if err := m.Merge(background, nothing, func(context.Context) error { return errBroken }); err != errBroken {
		t.Error(err)
	}
	d.waitFor("the guest, for there is room", v.q.runs)
	for i := 0; i < 2; i++ {
		if err := m.GiveUp(background); !errors.Is(err, ErrInUse) || OutcomeOf(err) != OutcomeRefused {
			t.Error(err)
		}
	}
	if v.q.inForce().Group == hostOwn.Group || h.Member("vm1") != m {
		t.Errorf("%+v", v.q.inForce())
	}
	next := newMove(t, "next") // on the same link, which nobody uses any more
	if err := next.send(background, h); err != nil || next.back != nil {
		t.Error(err)
	}
	_, err := file.WriteAt(make([]byte, 1<<20), 1<<20)
	must(t, err)
	d.waitFor("its size", func() bool { return h.used() >= 2<<20 })
	v.q.merge()
	d.waitFor("the end", func() bool { return h.Member("vm1") == nil })
	must(t, isAsBefore(v.q))
	must(t, m.GiveUp(background))
	for _, err := range []error{m.Mirror(background), m.Sent(1), m.Overlay(background, 0, file), m.Memory(background)} {
		if !errors.Is(err, ErrState) {
			t.Error(err)
		}
	}
}

// One QEMU hangs. The others' decisions come as ever, and when it goes on all is well with it too.
func TestHostOneHangs(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	hung, other := newMove(t, "hangs"), newMove(t, "other")
	other.link = 1 // with a link of its own its turn comes at once
	monitor := newIncus(t, hung.q, wallClock{})
	hung.monitor = FromRunner(monitor, refusedByQEMU)
	d.knows("hangs", hung.monitor)
	m, _ := hung.begun(h)
	other.at = func(step string) error {
		if step != "begun" {
			return nil
		}
		monitor.hangs.Lock()
		stats, err := h.buffer.Stats()
		must(t, err)
		d.waitFor("ticks", func() bool {
			s, err := h.buffer.Stats()
			return err == nil && s.Ticks > stats.Ticks+5
		})
		before := other.q.inForce() // another hand's limits are noticed, and ours set again
		must(t, other.q.carryOut("block_set_io_throttle", map[string]any{"id": "dev-n0", "bps_rd": 9, "iops_wr": 3}, nil))
		d.waitFor("its limits", func() bool {
			return other.q.inForce().Group == before.Group && other.q.inForce().BpsRd == 9 && other.q.inForce().IopsWr != 0
		})
		return nil
	}
	if err := other.send(background, h); err != nil || other.back != nil { // from its first limit to its end
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(background)
	came := make(chan error)
	go func() { came <- m.Merge(ctx, nothing, nothing) }()
	cancel()
	if err := <-came; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go func() { came <- m.GiveUp(ctx) }()
	if err := <-came; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if h.Member("hangs") != m {
		t.Error("nobody knows whether its overlay is gone")
	}
	hung.q.merge()
	monitor.hangs.Unlock()
	d.waitFor("the end", func() bool { return h.Member("hangs") == nil })
	must(t, isAsBefore(hung.q))
}

// It hangs until the daemon kills it: that ends its way back.
func TestHostKilled(t *testing.T) {
	for _, how := range []string{"Finish", "Monitor"} {
		d := newDaemon(t, 400<<20)
		h := d.open()
		v := newMove(t, "vm1")
		q := &faulty{q: v.q, n: 1 << 30, at: 1 << 30}
		locked := &oneAtATime{m: q}
		v.monitor = locked
		d.knows("vm1", locked)
		m, _ := v.begun(h)
		locked.set(func() { q.at, q.fate = 0, never })
		ended, end := context.WithCancel(background)
		end()
		if err := m.GiveUp(ended); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if how == "Finish" {
			must(t, m.Finish(background))
		} else {
			d.knows("vm1", nil)
		}
		d.waitFor("the end", func() bool { return h.Member("vm1") == nil })
		must(t, m.GiveUp(background))
		v.q.merge()
	}
}

// oneAtATime makes a stand-in of the package's a monitor for several goroutines.
type oneAtATime struct {
	mu sync.Mutex
	m  Monitor
}

func (o *oneAtATime) Run(ctx context.Context, command string, args any, resp any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.m.Run(ctx, command, args, resp)
}

func (o *oneAtATime) set(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// Whichever answers are lost, and whatever becomes of their commands: it moves or it comes back, and nothing is left.
func TestHostLostAnswers(t *testing.T) {
	whole := &faulty{}
	for at := -1; at < 24; at++ {
		for f := landed; f <= late; f++ {
			d := newDaemon(t, 400<<20)
			h := d.open()
			v := newMove(t, "vm1")
			m := &faulty{q: v.q, fate: f, at: at, n: 2}
			if at < 0 {
				m.n, whole = 0, m
			}
			v.monitor = &oneAtATime{m: m}
			d.knows("vm1", v.monitor)
			m1, err := h.Migrate(background, v.vm())
			if err != nil {
				if !errors.Is(err, ErrUnknown) {
					t.Error(at, f, err)
				}
				d.waitFor("the end", func() bool { return h.Member("vm1") == nil })
				must(t, h.Close())
				must(t, isAsBefore(v.q))
				continue
			}
			file, err := v.overlay(m1)
			must(t, err)
			must(t, m1.Overlay(background, 0, file))
			must(t, v.q.snapshot("n0_snap", file))
			for tries := 0; ; tries++ {
				err = m1.Merge(background, nothing, func(context.Context) error {
					if v.q.runs() {
						t.Error(at, f, "the commit is completed under a running guest")
					}
					v.q.merge()
					return nil
				})
				if err == nil {
					break
				}
				if tries > 5 || !errors.Is(err, ErrUnknown) {
					t.Fatal(at, f, err)
				}
			}
			must(t, m1.GiveUp(background))
			file.Close()
			must(t, h.Close())
			if err := isAsBefore(v.q); err != nil {
				t.Errorf("answers %d and %d, %v: %v; %q", at, at+1, f, err, v.q.said)
			}
		}
	}
	if whole.sent < 15 {
		t.Error("so short a life tells nothing:", whole.q.said)
	}
}

// Each call ends with its context, and changes nothing then.
func TestHostContext(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, file := v.begun(h)
	ended, end := context.WithCancel(background)
	end()
	d.waitFor("the end of the snapshot's drain", func() bool { v, err := h.buffer.View(m.id); return err == nil && v.ReserveBytes == 4*4<<20 })
	view, err := h.buffer.View(m.id)
	must(t, err)
	_, errMigrate := h.Migrate(ended, newMove(t, "vm2").vm())
	_, errTell := h.TellHostLimits(ended, "vm1", "n0", ThrottleConfig{IopsWr: 3})
	_, errOpen := OpenHost(ended, d.config)
	for i, err := range []error{errMigrate, errTell, errOpen, m.Overlay(ended, 0, file), m.Mirror(ended), m.Drained(ended, 50), m.Memory(ended),
		m.Merge(ended, func(context.Context) error { t.Error("begun"); return nil }, nothing)} {
		if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrTimeout) {
			t.Error(i, err)
		}
	}
	after, err := h.buffer.View(m.id)
	if err != nil || after.Phase != view.Phase || after.ReserveBytes != view.ReserveBytes || m.handsOff {
		t.Errorf("%+v, before %+v", after, view)
	}

	// More drains than there is room for, of a guest that cannot be stopped: it waits for as long as its context lasts, and the reserve
	// is as before then.
	v.q.refuse("stop", true)
	waits, stop := context.WithCancel(background)
	came := make(chan error)
	go func() { came <- m.Drained(waits, 200) }()
	ticks, err := h.buffer.Stats()
	must(t, err)
	d.waitFor("ticks", func() bool { s, _ := h.buffer.Stats(); return s.Ticks > ticks.Ticks+3 })
	stop()
	if err := <-came; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	v.q.refuse("stop", false)
	d.waitFor("the reserve", func() bool { v, err := h.buffer.View(m.id); return err == nil && v.ReserveBytes == view.ReserveBytes })

	v.q.merge()
	must(t, m.GiveUp(background))
	must(t, isAsBefore(v.q))

	// While its first limit is on its way.
	slow := newMove(t, "slow")
	sent, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow.monitor = ctxRunFunc(func(ctx context.Context, command string, args any, resp any) error {
		if command == "object-add" {
			once.Do(func() { close(sent); <-goOn })
		}
		return slow.q.Run(ctx, command, args, resp)
	})
	waits, stop = context.WithCancel(background)
	go func() {
		_, err := h.Migrate(waits, slow.vm())
		came <- err
	}()
	<-sent
	stop()
	if err := <-came; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(goOn)
	d.waitFor("the end", func() bool { return h.Member("slow") == nil })
	must(t, isAsBefore(slow.q))
}

// Who finds no room waits, and goes on when another one has ended. Who never would is told at once.
func TestHostNoRoom(t *testing.T) {
	d := newDaemon(t, 40<<20)
	h := d.open()
	big := newMove(t, "big").vm()
	big.Disks[0].Geometry.QueueBytes = 100 << 20
	if _, err := h.Migrate(background, big); !errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
	first, second, third := newMove(t, "first"), newMove(t, "second"), newMove(t, "third")
	second.link, third.link = 1, 2 // the link is not what they wait for
	m, _ := first.begun(h)
	came := make(chan error)
	go func() {
		err := second.send(background, h)
		came <- err
	}()
	ctx, cancel := context.WithCancel(background)
	thirdCame := make(chan error)
	go func() { thirdCame <- third.send(ctx, h) }()
	d.waitFor("the queue", func() bool { return h.Stats().Waiting == 2 })
	if _, err := h.Migrate(background, newMove(t, "second").vm()); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if _, err := h.Migrate(background, newMove(t, "first").vm()); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	cancel()
	if err := <-thirdCame; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	must(t, isAsBefore(third.q))
	must(t, isAsBefore(second.q)) // not throttled while it waits
	first.q.merge()
	must(t, m.Finish(background))
	if err := <-came; err != nil || !second.moved {
		t.Error(err)
	}
}

// The daemon dies in the middle, and another process takes its place.
func TestHostRestart(t *testing.T) {
	for _, where := range []string{"no overlay", "overlay", "guest stands", "paused by hand", "given up", "gone"} {
		t.Run(where, func(t *testing.T) {
			d := newDaemon(t, 400<<20)
			h := d.open()
			v := newMove(t, "vm1")
			d.knows("vm1", v.q)
			var m *Member
			var err error
			var file *os.File
			if where == "no overlay" {
				m, err = h.Migrate(background, v.vm())
				must(t, err)
			} else {
				m, file = v.begun(h)
				d.waitFor("its size", func() bool { return h.used() >= 1<<20 })
				must(t, m.Mirror(background))
			}
			switch where {
			case "guest stands": // between the stop and the commit's end
				must(t, m.own(background, "test"))
				must(t, m.standing(background, "test", nothing))
			case "paused by hand":
				must(t, v.q.carryOut("stop", nil, nil))
			case "given up": // its room is free, its limits are not given back
				v.q.merge()
				h.mu.Lock()
				m.inBuffer = false
				must(t, h.buffer.Remove(m.id))
				h.mu.Unlock()
				must(t, h.save())
			case "gone":
				d.knows("vm1", nil)
			}
			d.dies(h)
			before := v.q.inForce()
			h = d.open()
			if where == "overlay" || where == "guest stands" || where == "paused by hand" {
				m = h.Member("vm1")
				must(t, m.begin(background, "test"))
				_, err = file.WriteAt(make([]byte, 1<<20), 1<<20)
				must(t, err)
				d.waitFor("its size, from QEMU", func() bool { return h.used() >= 2<<20 })
				if c := v.q.inForce(); c.Group != before.Group || c.Group == hostOwn.Group {
					t.Errorf("%+v, before %+v", c, before)
				}
				if m.phase != PhaseMirror || m.drains != 2 {
					t.Error(m.phase, m.drains)
				}
				must(t, m.Merge(background, nothing, func(context.Context) error {
					if v.q.runs() {
						t.Error("it runs")
					}
					v.q.merge()
					return nil
				}))
				must(t, m.GiveUp(background))
			}
			d.waitFor("the end", func() bool { return h.Member("vm1") == nil })
			d.waitFor("its state", func() bool { return len(d.members()) == 0 })
			switch where {
			case "gone":
				if v.q.inForce() != before {
					t.Error("something was sent")
				}
			case "paused by hand":
				if v.q.runs() {
					t.Error("it runs, and another hand had stopped it")
				}
			default:
				must(t, isAsBefore(v.q))
			}
			v.q.merge()
			next := newMove(t, "vm1") // the numbers go on
			if err := next.send(background, h); err != nil {
				t.Error(err)
			}
		})
	}
}

// The new process's connections do not come at once, and break.
func TestHostRestartLate(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	_, _ = v.begun(h)
	d.dies(h)
	connections := 0
	d.config.Monitor = func(context.Context, string) (Monitor, error) {
		connections++ // one goroutine at a time
		if connections < 3 {
			return nil, errBroken
		}
		if connections == 3 { // it breaks after some answers
			return &oneAtATime{m: &faulty{q: v.q, at: 5, n: 1 << 30, fate: never}}, nil
		}
		return v.q, nil
	}
	h = d.open()
	m := h.Member("vm1")
	ended, end := context.WithCancel(background)
	end()
	if err := m.Mirror(ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	d.waitFor("a new connection", func() bool {
		_, monitor := m.hands()
		return monitor == Monitor(v.q)
	})
	v.q.merge()
	d.waitFor("the end", func() bool { return h.Member("vm1") == nil })
	must(t, isAsBefore(v.q))
}

// A state that cannot be saved sets no limit, and one that is damaged is left as it is.
func TestHostState(t *testing.T) {
	d := newDaemon(t, 400<<20)
	d.config.Options.LagMs = 60000 // so long it is tried
	h := d.open()
	v := newMove(t, "vm1")
	must(t, os.Mkdir(d.config.State+".new", 0700)) // where the new text would be written
	came := make(chan *Member)
	go func() {
		m, err := h.Migrate(background, v.vm())
		if err != nil {
			t.Error(err)
		}
		came <- m
	}()
	d.waitFor("decisions", func() bool { return h.Stats().Refused > 3 })
	if err := isAsBefore(v.q); err != nil {
		t.Error(err)
	}
	must(t, os.Remove(d.config.State+".new"))
	m := <-came
	text, err := os.ReadFile(d.config.State)
	must(t, err)
	must(t, m.GiveUp(background))
	must(t, isAsBefore(v.q))
	must(t, h.Close())

	state := d.config.State
	for what, bad := range map[string]string{
		"empty": "", "cut": string(text[:len(text)/2]), "longer": string(text) + "{}", "not its own": `{"name": "x"}`,
		"a newer version": strings.Replace(string(text), `"migbuf-host":2`, `"more":{},"migbuf-host":3`, 1),
		"no version":      strings.Replace(string(text), `"migbuf-host":2,`, "", 1),
		"the buffer":      strings.Replace(string(text), `"buffer":"migbuf`, `"buffer":"migbug`, 1),
		"a disk":          strings.Replace(string(text), `"disk":"migbuf`, `"disk":"migbug`, 1),
		"no member":       strings.Replace(string(text), `"in_buffer":true`, `"in_buffer":false`, 1),
		"another member":  strings.Replace(string(text), `"id":1`, `"id":7`, 1),
		"a longer lag":    strings.Replace(string(text), `"lag_ms":60000`, `"lag_ms":0`, 1),
		"a member's disk": strings.Replace(string(text), `"nodes":["n0"]`, `"nodes":[]`, 1),
	} {
		if bad == string(text) {
			t.Error(what, "is not damaged")
		}
		must(t, os.WriteFile(state, []byte(bad), 0600))
		h, err := OpenHost(background, d.config)
		if h != nil || !errors.Is(err, ErrProtocol) {
			t.Error(what, h, err)
		}
		if newer := "it is of version 3, and this process knows 2 at most"; what == "a newer version" && !strings.Contains(err.Error(), newer) {
			t.Error(err)
		}
		if after, _ := os.ReadFile(state); string(after) != bad {
			t.Error(what, "is overwritten")
		}
	}
	// A version that knew no histories.
	old := strings.Replace(string(text), `"migbuf-host":2`, `"migbuf-host":1`, 1)
	for _, more := range []string{`,"snapshot_ahead":true`, `,"vm":"vm1"`} {
		if !strings.Contains(old, more) {
			t.Error(old, "has no", more)
		}
		old = strings.Replace(old, more, "", 1)
	}
	must(t, os.WriteFile(state, []byte(old), 0600))
	d.knows("vm1", v.q)
	h, err = OpenHost(background, d.config)
	must(t, err)
	if h.Member("vm1") == nil {
		t.Error("the older process's migration is not taken on")
	}
	must(t, h.Close())
	must(t, os.WriteFile(state, text, 0600))
	d.config.Monitor = nil
	if h, err := OpenHost(background, d.config); h != nil || !errors.Is(err, ErrInvalid) {
		t.Error(h, err)
	}
}

func TestHostRefused(t *testing.T) {
	d := newDaemon(t, 400<<20)
	notADirectory := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(notADirectory, nil, 0600))
	for what, change := range map[string]func(*HostConfig){
		"no volume":   func(c *HostConfig) { c.Volume = "/nonexistent" },
		"no state":    func(c *HostConfig) { c.State = "" },
		"its options": func(c *HostConfig) { c.Options = &BufferOptions{IntervalMs: 1} },
		"no lag":      func(c *HostConfig) { o := DefaultBufferOptions(); o.LagMs = 0; c.Options = &o },
		"a directory": func(c *HostConfig) { c.State = filepath.Dir(c.State) },
		"a file":      func(c *HostConfig) { c.Volume = notADirectory },
	} {
		config := d.config
		change(&config)
		if h, err := OpenHost(background, config); h != nil || err == nil {
			t.Error(what, h, err)
		}
	}
	h := d.open()
	v := newMove(t, "vm1")
	for what, change := range map[string]func(*HostVM){
		"no name": func(vm *HostVM) { vm.Name = "" }, "no monitor": func(vm *HostVM) { vm.Monitor = nil },
		"no disk": func(vm *HostVM) { vm.Disks = nil }, "geometry": func(vm *HostVM) { vm.Disks[0].Geometry = Geometry{} },
		"two of a name": func(vm *HostVM) { vm.Disks = append(vm.Disks, vm.Disks[0]) },
		"no such disk":  func(vm *HostVM) { vm.Disks[0].Node = "n9" },
		"a huge weight": func(vm *HostVM) { vm.Migration.Weight = 2000000 },
	} {
		bad := v.vm()
		change(&bad)
		if m, err := h.Migrate(background, bad); m != nil || err == nil {
			t.Error(what, m, err)
		}
	}
	for _, node := range []string{"", "n9"} { // the error says which
		bad := v.vm()
		bad.Disks[0].Node = node
		if _, err := h.Migrate(background, bad); err == nil || !strings.Contains(err.Error(), strconv.Quote(node)) {
			t.Error(node, err)
		}
	}
	for what, monitor := range map[string]Monitor{"runner": FromRunner(nil, nil), "LXD's": FromLXD(nil, nil)} {
		bad := v.vm()
		bad.Monitor = monitor
		if _, err := h.Migrate(background, bad); !errors.Is(err, ErrInvalid) {
			t.Error(what, err)
		}
	}
	must(t, isAsBefore(v.q))
	m, file := v.begun(h)
	if err := m.Merge(background, nothing, nil); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if err := (*Member)(nil).Merge(background, nil, nothing); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	gone, err := os.Open(t.TempDir())
	must(t, err)
	gone.Close()
	if err := m.Overlay(background, 1, file); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
	if err := m.Overlay(background, -1, file); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
	for _, f := range []*os.File{nil, gone} {
		if err := m.Overlay(background, 0, f); !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
	}
	for _, err := range []error{m.Sent(BytesMax + 1), m.Remaining(None)} {
		if !errors.Is(err, ErrRange) {
			t.Error(err)
		}
	}
	told, err := h.TellHostLimits(background, "vm1", "n0", ThrottleConfig{IopsWr: 77})
	if !told || err != nil {
		t.Error(told, err)
	}
	v.q.merge()
	must(t, m.GiveUp(background))
	if c := v.q.inForce(); c.IopsWr != 77 {
		t.Errorf("%+v", c)
	}
	must(t, h.Close())
	if _, err := h.Migrate(background, v.vm()); err == nil {
		t.Error("it is closed")
	}
}

// What is not in the volume would be measured, and the volume would be none the fuller for it.
func TestHostOverlayElsewhere(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, _ := v.begun(h)
	elsewhere, err := os.CreateTemp("/dev/shm", "migbuf")
	if err != nil {
		t.Skip(err)
	}
	defer elsewhere.Close()
	must(t, os.Remove(elsewhere.Name()))
	root, err := os.Stat(d.config.Volume)
	must(t, err)
	other, err := elsewhere.Stat()
	must(t, err)
	if root.Sys().(*syscall.Stat_t).Dev == other.Sys().(*syscall.Stat_t).Dev {
		t.Skip("all is in one file system")
	}
	before := m.files[0]
	if err := m.Overlay(background, 0, elsewhere); !errors.Is(err, ErrInvalid) || m.files[0] != before {
		t.Error(err)
	}
	v.q.merge()
	must(t, m.GiveUp(background))
}

// A capacity that the volume does not have would be no bound.
func TestHostCapacity(t *testing.T) {
	d := newDaemon(t, 1<<60)
	h := d.open()
	stats, err := h.Buffer().Stats()
	must(t, err)
	root, err := os.Open(d.config.Volume)
	must(t, err)
	defer root.Close()
	v, err := CowVolume(root)
	must(t, err)
	if stats.CapacityBytes > v.SizeBytes {
		t.Error(stats.CapacityBytes, v)
	}
}

// Another hand has changed the limits: ours come again, and its are given back.
func TestHostAnotherHand(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, _ := v.begun(h)
	must(t, v.q.carryOut("block_set_io_throttle", map[string]any{"id": "dev-n0", "bps_rd": 9, "iops_wr": 55}, nil))
	d.waitFor("ours", func() bool { return m.info().TakenOver == 1 && v.q.inForce().IopsSize == 65536 })
	v.q.merge()
	must(t, m.GiveUp(background))
	if c := v.q.inForce(); c.IopsWr != 55 {
		t.Errorf("%+v", c)
	}
}

// The same while it waits for room, and nothing of ours is in force: that must not be overwritten unseen.
func TestHostAnotherHandWhileItWaits(t *testing.T) {
	d := newDaemon(t, 40<<20)
	h := d.open()
	first, second := newMove(t, "first"), newMove(t, "second")
	second.link = 1 // the link is not what it waits for
	m, _ := first.begun(h)
	came := make(chan *Member)
	go func() {
		m, err := h.Migrate(background, second.vm())
		if err != nil {
			t.Error(err)
		}
		came <- m
	}()
	d.waitFor("the queue", func() bool { return h.Stats().Waiting == 1 })
	must(t, second.q.carryOut("block_set_io_throttle", map[string]any{"id": "dev-n0", "bps_rd": 9, "iops_wr": 55}, nil))
	first.q.merge()
	must(t, m.Finish(background))
	m = <-came
	must(t, m.GiveUp(background))
	if c := second.q.inForce(); c.IopsWr != 55 || c.BpsRd != 9 {
		t.Errorf("%+v", c)
	}
}

func (m *Member) info() DiskInfo {
	disk, _ := m.hands()
	info, _ := disk.Info()
	return info
}

// LXD's methods of six rates cannot ask what is on top: our descriptors and the daemon's word have to do.
func TestHostSixRates(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	v.q = newQEMU(ThrottleConfig{IopsRd: 700, Group: "dev-n0"})
	own := v.q.inForce()
	one := v.vm()
	one.Monitor, one.SixRates = FromLXD(&lxdMonitor{q: v.q}, refusedByQEMU, LXDDisk{Node: "n0", QDev: "dev-n0", Host: own}), true
	m, err := h.Migrate(background, one)
	must(t, err)
	file, err := v.overlay(m)
	must(t, err)
	defer file.Close()
	must(t, m.Overlay(background, 0, file))
	_, err = file.WriteAt(make([]byte, 1<<20), 0)
	must(t, err)
	d.waitFor("its size", func() bool { return h.used() >= 1<<20 })
	must(t, m.Mirror(background))
	must(t, m.Merge(background, nothing, nothing))
	must(t, m.GiveUp(background))
	if v.q.inForce() != own {
		t.Errorf("%+v", v.q.inForce())
	}
}

// What a link carries is the sum of what was sent, also by those that have ended, or what the daemon's counter says.
func TestHostLink(t *testing.T) {
	for _, counter := range []bool{false, true} {
		d := newDaemon(t, 400<<20)
		var mu sync.Mutex
		carried := uint64(0)
		if counter {
			d.config.Link = func(link uint64) (uint64, bool, error) {
				mu.Lock()
				defer mu.Unlock()
				carried += 10 << 20
				return carried, false, nil
			}
		}
		h := d.open()
		v := newMove(t, "vm1")
		m, _ := v.begun(h)
		sent := uint64(0)
		d.waitFor("a speed", func() bool {
			if !counter {
				sent += 1 << 20
				must(t, m.Sent(sent))
			}
			view, err := h.buffer.View(m.id)
			return err == nil && view.FinishS < 1e6
		})
		v.q.merge()
		must(t, m.Finish(background))
	}
}

// While its memory is sent nobody but the migration lets a guest run, but the buffer may stop it.
func TestHostMemory(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, _ := v.begun(h)
	must(t, m.Memory(background))
	must(t, h.Close()) // no tick but ours
	disk, err := LoadDisk(m.text)
	must(t, err)
	defer disk.Close()
	must(t, disk.Pump(background, v.q))
	m.disk = disk
	apply := func(action Action, n uint64) {
		t.Helper()
		if _, err := m.apply(background, Decision{ID: m.id, Action: action, Limits: units(n)}); err != nil {
			t.Error(action, err)
		}
	}
	apply(ActionPause, 0)
	if v.q.runs() {
		t.Error("the buffer takes it for paused, and it runs")
	}
	apply(ActionResume, 7)
	if v.q.runs() || v.q.inForce().IopsWr != 7 {
		t.Errorf("%v %+v", v.q.runs(), v.q.inForce())
	}
	m.handsOff, m.mustRun = false, true // as after a Merge that could not let it run
	apply(ActionKeep, 0)
	if !v.q.runs() || m.mustRun {
		t.Error("it stands, and the buffer takes it for running")
	}
	v.q.merge()
}

// A first limit that is refused for ever, by QEMU or because the state cannot be saved: it is told by whom, and nothing is left.
func TestHostFirstLimitRefused(t *testing.T) {
	for _, by := range []string{"QEMU", "the state"} {
		d := newDaemon(t, 400<<20)
		h := d.open()
		v := newMove(t, "vm1")
		expected := ErrPeer
		if by == "QEMU" {
			for _, command := range []string{"object-add", "qom-set", "block_set_io_throttle"} {
				v.q.refuse(command, true)
			}
		} else {
			expected = ErrState
			must(t, os.Mkdir(d.config.State+".new", 0700))
		}
		if m, err := h.Migrate(background, v.vm()); m != nil || !errors.Is(err, expected) || OutcomeOf(err) != OutcomeRefused {
			t.Error(by, m, err, OutcomeOf(err))
		}
		for _, command := range []string{"object-add", "qom-set", "block_set_io_throttle"} {
			v.q.refuse(command, false)
		}
		_ = os.Remove(d.config.State + ".new")
		d.waitFor("the end", func() bool { return h.Member("vm1") == nil })
		must(t, isAsBefore(v.q))
	}
}

// The guest cannot be let run after its commit, or its context ends there: the ticks let it run. And limits that QEMU does not take back at
// first are given back later.
func TestHostLater(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, _ := v.begun(h)
	v.q.refuse("cont", true)
	merge := func(context.Context) error { v.q.merge(); return nil }
	if err := m.Merge(background, nothing, merge); !errors.Is(err, ErrPeer) || v.q.runs() {
		t.Error(err, v.q.runs())
	}
	v.q.refuse("cont", false)
	d.waitFor("the guest", v.q.runs)
	ctx, cancel := context.WithCancel(background)
	if err := m.Merge(ctx, nothing, func(context.Context) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	d.waitFor("the guest", v.q.runs)
	v.q.refuse("block_set_io_throttle", true)
	if err := m.GiveUp(background); !errors.Is(err, ErrPeer) || h.Member("vm1") != m {
		t.Error(err)
	}
	v.q.refuse("block_set_io_throttle", false)
	d.waitFor("the end", func() bool { return h.Member("vm1") == nil })
	must(t, isAsBefore(v.q))
}

func (q *fakeQEMU) refuse(command string, yes bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refuses[command] = yes
}

// conts counts how often the guest was let run.
func (q *fakeQEMU) conts() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, command := range q.said {
		if strings.HasPrefix(command, "cont") {
			n++
		}
	}
	return n
}

// The volume is full, so the guest stands. What fails on the way back, and another process, do not let it run: what it would write has no
// room.
func TestHostFull(t *testing.T) {
	d := newDaemon(t, 40<<20)
	h := d.open()
	v := newMove(t, "vm1")
	d.knows("vm1", v.q)
	m, file := v.begun(h)
	_, err := file.WriteAt(make([]byte, 39<<20), 0)
	must(t, err)
	d.waitFor("the stop", func() bool { return !v.q.runs() })
	ticks := func() {
		before, err := h.buffer.Stats()
		must(t, err)
		d.waitFor("ticks", func() bool { s, err := h.buffer.Stats(); return err == nil && s.Ticks > before.Ticks+3 })
	}
	stands := func(after string) {
		t.Helper()
		ticks()
		if v.q.runs() || v.q.conts() != 0 {
			t.Errorf("after %s it runs; cont was sent %d times", after, v.q.conts())
		}
	}
	stands("the stop")
	if err := m.GiveUp(background); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	stands("GiveUp")
	if err := m.Merge(background, nothing, func(context.Context) error { return errBroken }); err != errBroken {
		t.Error(err)
	}
	stands("a commit that failed")
	if err := m.Merge(background, nothing, nothing); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	stands("a commit that did nothing")
	d.dies(h)
	h = d.open()
	m = h.Member("vm1")
	must(t, m.begin(background, "test"))
	stands("a restart")
	must(t, m.Merge(background, nothing, func(context.Context) error { v.q.merge(); return nil }))
	if !v.q.runs() {
		t.Error("its overlay is gone, and it stands")
	}
	must(t, m.GiveUp(background))
	must(t, isAsBefore(v.q))
}

// Its figures tell QEMU's own refusals from silence, also where a question got no answer and so nothing was sent.
func TestHostStats(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	q := &faulty{q: v.q, n: 1 << 30, at: 1 << 30}
	locked := &oneAtATime{m: q}
	v.monitor = locked
	m, _ := v.begun(h)
	decided := func() bool {
		before := h.Stats().Decisions
		must(t, h.buffer.Resync(m.id, units(1<<40), true)) // so there is something to lower
		return comes(func() bool { return h.Stats().Decisions > before+1 })
	}
	locked.set(func() { q.at, q.fate = 0, never })
	if s := h.Stats(); !decided() || h.Stats().Refused != 0 || h.Stats().Unknown == s.Unknown {
		t.Errorf("%+v, before %+v", h.Stats(), s)
	}
	locked.set(func() { q.at = 1 << 30 })
	commands := []string{"stop", "cont", "qom-set", "block_set_io_throttle"}
	for _, command := range commands {
		v.q.refuse(command, true)
	}
	if s := h.Stats(); !decided() || !comes(func() bool { return h.Stats().Refused > s.Refused }) {
		t.Errorf("%+v, before %+v", h.Stats(), s)
	}
	for _, command := range commands {
		v.q.refuse(command, false)
	}
	v.q.merge()
	must(t, m.GiveUp(background))
	must(t, isAsBefore(v.q))
}
