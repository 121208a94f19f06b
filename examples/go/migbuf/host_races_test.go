// SPDX-License-Identifier: MIT

package migbuf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// What comes between two steps of a Host: a connection that breaks, a tick, an end, a logger that asks.

// ticksOn waits until n more ticks are over.
func (d *daemon) ticksOn(h *Host, n uint64) {
	d.t.Helper()
	before, err := h.buffer.Stats()
	must(d.t, err)
	d.waitFor("ticks", func() bool { s, err := h.buffer.Stats(); return err == nil && s.Ticks > before.Ticks+n })
}

func (m *Member) ahead() uint32 {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	return m.drains
}

// ctxRunFunc is a Monitor that is a function.
type ctxRunFunc func(ctx context.Context, command string, args any, resp any) error

func (f ctxRunFunc) Run(ctx context.Context, command string, args any, resp any) error {
	return f(ctx, command, args, resp)
}

// broken answers nothing while it is.
type broken struct {
	q   *fakeQEMU
	yes int32
}

func (b *broken) is(yes int32) { atomic.StoreInt32(&b.yes, yes) }
func (b *broken) Run(ctx context.Context, command string, args any, resp any) error {
	if atomic.LoadInt32(&b.yes) != 0 {
		return errNoAnswer
	}
	return b.q.Run(ctx, command, args, resp)
}

// warnings keeps what a person has to know.
type warnings struct {
	logTo
	mu    sync.Mutex
	texts []string
}

func (w *warnings) Warn(msg string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, msg)
}

func (w *warnings) said(msg string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.texts {
		if text == msg {
			n++
		}
	}
	return n
}

// The connection of a migration that was taken on breaks while its commit begins. Nothing can be asked of QEMU until there is another:
// that is no yes.
func TestHostConnectionLost(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	d.knows("vm1", v.q)
	_, _ = v.begun(h)
	d.dies(h)
	q, tries := &broken{q: v.q}, 0
	d.config.Monitor = func(context.Context, string) (Monitor, error) {
		if tries++; tries > 1 && tries < 5 { // one goroutine at a time
			return nil, errBroken
		}
		q.is(0)
		return q, nil
	}
	h = d.open()
	m := h.Member("vm1")
	must(t, m.begin(background, "test"))
	must(t, m.Merge(background, func(context.Context) error {
		q.is(1)
		d.waitFor("that it is lost", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return m.connecting })
		return nil
	}, func(context.Context) error {
		if v.q.runs() {
			t.Error("the commit is completed under a running guest")
		}
		v.q.merge()
		return nil
	}))
	d.waitFor("the end", func() bool { return h.Member("vm1") == nil })
	must(t, isAsBefore(v.q))
}

// A new connection is made while a tick stops the guest by the old one. Whoever stops it is who lets it run.
func TestHostConnectsUnderATick(t *testing.T) {
	d := newDaemon(t, 40<<20)
	h := d.open()
	v := newMove(t, "vm1")
	var mute int32
	v.monitor = ctxRunFunc(func(ctx context.Context, command string, args any, resp any) error {
		if command == "query-blockstats" && atomic.LoadInt32(&mute) != 0 {
			return errNoAnswer
		}
		return v.q.Run(ctx, command, args, resp)
	})
	asked, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.knows("vm1", ctxRunFunc(func(ctx context.Context, command string, args any, resp any) error {
		if command == "query-block" {
			once.Do(func() { close(asked); <-goOn })
		}
		return v.q.Run(ctx, command, args, resp)
	}))
	m, file := v.begun(h)
	atomic.StoreInt32(&mute, 1)
	ended, end := context.WithCancel(background)
	end()
	if err := m.GiveUp(ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-asked // the new connection knows what was saved so far
	_, err := file.WriteAt(make([]byte, 39<<20), 0)
	must(t, err)
	d.waitFor("the stop", func() bool { return !v.q.runs() })
	d.ticksOn(h, 2)
	close(goOn)
	old, _ := m.hands()
	d.waitFor("the new connection", func() bool { disk, _ := m.hands(); return disk != old })
	must(t, file.Truncate(0))
	v.q.merge()
	d.waitFor("the end", func() bool { return h.Member("vm1") == nil })
	must(t, isAsBefore(v.q))
}

// A new connection takes the old one's place in turn: not while another may stop the guest, and not once the migration has ended.
func TestHostConnectsInTurn(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, err := h.Migrate(background, v.vm())
	must(t, err)
	connect := func(meanwhile func()) error {
		asked := make(chan struct{})
		var once sync.Once
		d.knows("vm1", ctxRunFunc(func(ctx context.Context, command string, args any, resp any) error {
			once.Do(func() { close(asked) })
			return v.q.Run(ctx, command, args, resp)
		}))
		must(t, m.enter(background, "test"))
		old, _ := m.hands()
		came := make(chan error, 1)
		go func() { came <- m.connect() }()
		<-asked
		d.ticksOn(h, 1)
		if disk, _ := m.hands(); disk != old || len(came) != 0 {
			t.Error("the guest is another's, and its disk is replaced")
		}
		meanwhile()
		m.leaveGuest()
		err := <-came
		if disk, _ := m.hands(); (disk != old) != (err == nil) {
			t.Error(err, "and its disk is replaced or not")
		}
		return err
	}
	must(t, connect(func() {}))
	v.q.merge()
	if err := connect(func() { must(t, m.Finish(background)) }); !errors.Is(err, ErrUnknown) {
		t.Error("it has ended, and a connection takes its place:", err)
	}
}

// What the daemon says of drains stands: the end of the snapshot's is seen once.
func TestHostDrained(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, _ := v.begun(h)
	d.waitFor("the end of the snapshot's drain", func() bool { return m.ahead() == 3 })
	d.ticksOn(h, 5)
	if n := m.ahead(); n != 3 {
		t.Error("the snapshot's drain has ended once, and what is ahead is", n)
	}
	must(t, m.Drained(background, 4))
	d.ticksOn(h, 5)
	if n := m.ahead(); n != 4 {
		t.Error("the daemon said 4, and it is", n)
	}
	d.dies(h)
	d.knows("vm1", v.q)
	h = d.open()
	m = h.Member("vm1")
	must(t, m.begin(background, "test"))
	d.ticksOn(h, 5)
	if n := m.ahead(); n != 4 {
		t.Error("the daemon said 4, and in the next process it is", n)
	}
	v.q.merge()
	must(t, m.GiveUp(background))
}

// A daemon counts by itself before there is an overlay: then the end of the snapshot's drain is its to say.
func TestHostDrainedBeforeTheOverlay(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, err := h.Migrate(background, v.vm())
	must(t, err)
	must(t, m.Drained(background, 4))
	file, err := v.overlay(m)
	must(t, err)
	defer file.Close()
	must(t, m.Overlay(background, 0, file))
	must(t, v.q.snapshot("n0_snap", file))
	d.ticksOn(h, 5)
	if n := m.ahead(); n != 4 {
		t.Error("the daemon said 4, and it is", n)
	}
	v.q.merge()
	must(t, m.GiveUp(background))
}

// A daemon waits for room for its drains while the snapshot's ends, and gives up. The reserve is the one that is saved. There would be
// room if the guest stood, but QEMU does not stop it.
func TestHostDrainedInVain(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	m, err := h.Migrate(background, v.vm())
	must(t, err)
	v.q.refuse("stop", true)
	ctx, cancel := context.WithCancel(background)
	came := make(chan error)
	go func() { came <- m.Drained(ctx, 200) }()
	d.ticksOn(h, 5)
	file, err := v.overlay(m)
	must(t, err)
	defer file.Close()
	must(t, m.Overlay(background, 0, file))
	must(t, v.q.snapshot("n0_snap", file))
	d.waitFor("the end of the snapshot's drain", func() bool { return m.ahead() == 3 })
	d.ticksOn(h, 3)
	cancel()
	if err := <-came; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	v.q.refuse("stop", false)
	d.ticksOn(h, 3)
	d.waitFor("the reserve", func() bool { v, err := h.buffer.View(m.id); return err == nil && v.ReserveBytes == (3+1)*4<<20 })
	if m.ahead() != 3 {
		t.Error("drains that are saved:", m.ahead())
	}
	v.q.merge()
	must(t, m.GiveUp(background))
}

// The daemon changes its own limits while they are given back: either they are the ones that are given back, or it hears that
// the VM does not migrate and sets them itself.
func TestHostTellsWhileItEnds(t *testing.T) {
	d := newDaemon(t, 400<<20)
	h := d.open()
	v := newMove(t, "vm1")
	var held int32
	sent, goOn := make(chan struct{}), make(chan struct{})
	v.monitor = ctxRunFunc(func(ctx context.Context, command string, args any, resp any) error {
		err := v.q.Run(ctx, command, args, resp)
		if command == "block_set_io_throttle" && atomic.CompareAndSwapInt32(&held, 1, 2) {
			close(sent)
			<-goOn
		}
		return err
	})
	m, err := h.Migrate(background, v.vm())
	must(t, err)
	atomic.StoreInt32(&held, 1)
	ended := make(chan error)
	go func() { ended <- m.GiveUp(background) }()
	<-sent
	type answer struct {
		told bool
		err  error
	}
	came := make(chan answer)
	asks := make(chan struct{})
	go func() {
		close(asks)
		told, err := h.TellHostLimits(background, "vm1", "n0", ThrottleConfig{IopsWr: 77})
		came <- answer{told, err}
	}()
	<-asks
	runtime.Gosched()
	close(goOn)
	a := <-came
	must(t, <-ended)
	if c := v.q.inForce(); a.err != nil || a.told != (c.IopsWr == 77) {
		t.Errorf("told %v, %v, and %+v is in force", a.told, a.err, c)
	}
}

// QEMU refuses to take limits back, where nobody waits for an error: a person is told, once.
func TestHostTellsOfRefusals(t *testing.T) {
	d := newDaemon(t, 400<<20)
	log := &warnings{logTo: logTo{t}}
	d.config.Log = log
	h := d.open()
	v := newMove(t, "vm1")
	m, err := h.Migrate(background, v.vm())
	must(t, err)
	commands := []string{"block_set_io_throttle", "qom-set"}
	for _, command := range commands {
		v.q.refuse(command, true)
	}
	ended, end := context.WithCancel(background)
	end()
	if err := m.GiveUp(ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	n := v.q.count()
	d.waitFor("tries", func() bool { return v.q.count() > n+30 })
	if n := log.said("Limits are not given back yet: vm1"); n != 1 {
		t.Error("it is said", n, "times")
	}
	for _, command := range commands {
		v.q.refuse(command, false)
	}
	d.waitFor("the end", func() bool { return h.Member("vm1") == nil })
	must(t, isAsBefore(v.q))
}

// A migration ends while a tick looks at it. That is no refusal, and nobody has to hear of it.
func TestHostFinishUnderALook(t *testing.T) {
	d := newDaemon(t, 400<<20)
	log := &warnings{logTo: logTo{t}}
	d.config.Log = log
	h := d.open()
	v := newMove(t, "vm1")
	in, out := make(chan struct{}, 100), make(chan struct{})
	var held int32
	v.monitor = ctxRunFunc(func(ctx context.Context, command string, args any, resp any) error {
		if command == "query-block" && atomic.LoadInt32(&held) != 0 {
			select {
			case in <- struct{}{}:
			default:
			}
			select {
			case <-out:
			case <-ctx.Done():
			}
		}
		return v.q.Run(ctx, command, args, resp)
	})
	m, _ := v.begun(h)
	atomic.StoreInt32(&held, 1)
	<-in // a look
	v.q.merge()
	before := h.Stats()
	must(t, m.Finish(background))
	close(out)
	d.ticksOn(h, 3)
	if s := h.Stats(); s.Refused != before.Refused || log.said("A decision was not carried out: vm1") != 0 {
		t.Errorf("%+v, before %+v, %q", s, before, log.texts)
	}
}

// asking is a logger that asks the Host itself.
type asking struct {
	logTo
	h *atomic.Value
}

func (a asking) Info(msg string, args ...any) {
	if h, ok := a.h.Load().(*Host); ok {
		h.Stats()
	}
}

// A logger may ask the Host: none is called with its lock held.
func TestHostLoggerAsks(t *testing.T) {
	d := newDaemon(t, 40<<20)
	log := asking{logTo{t}, &atomic.Value{}}
	d.config.Log = log
	h := d.open()
	log.h.Store(h)
	first, second := newMove(t, "first"), newMove(t, "second")
	second.link = 1
	m, _ := first.begun(h)
	came := make(chan error, 1)
	go func() { came <- second.send(background, h) }()
	d.waitFor("that the second waits", func() bool { return h.Stats().Waiting == 1 })
	d.ticksOn(h, 3) // it was said for what it waits
	first.q.merge()
	must(t, m.Finish(background))
	must(t, <-came)
}

// Who sees that a Host is closed sees that its context has ended: otherwise what it leaves undone would look done.
func TestHostClosesAtOnce(t *testing.T) {
	d := newDaemon(t, 40<<20)
	h := d.open()
	cancel := h.cancel
	h.cancel = func() {
		if h.mu.TryLock() {
			t.Error("it can be seen as closed before its context has ended")
			h.mu.Unlock()
		}
		cancel()
	}
	must(t, h.Close())
}

// dying is the connection of a process that is killed when it has sent so many commands: the last of them is carried out, or not.
type dying struct {
	q       Monitor
	d       *daemon
	kill    context.CancelFunc
	mu      sync.Mutex
	left    int
	carried bool
	state   []byte // what the process leaves
}

func (k *dying) dead() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state != nil
}

func (k *dying) Run(ctx context.Context, command string, args any, resp any) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state != nil {
		return errNoAnswer
	}
	if k.left--; k.left >= 0 {
		return k.q.Run(ctx, command, args, resp)
	}
	if k.carried {
		_ = k.q.Run(ctx, command, args, nil)
	}
	k.state, _ = os.ReadFile(k.d.config.State)
	k.kill()
	return errNoAnswer
}

func (q *fakeQEMU) stacked() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.tops) > 0
}

// thereAndBack is a migration that is given up at its end. A process that is dead does nothing any more: no way back either.
func (v *move) thereAndBack(ctx context.Context, h *Host, dead func() bool) (file *os.File) {
	m, err := h.Migrate(ctx, v.vm())
	if err != nil || dead() {
		return nil
	}
	file, err = v.overlay(m)
	must(v.t, err)
	if m.Overlay(ctx, 0, file) != nil || dead() {
		return file
	}
	must(v.t, v.q.snapshot("n0_snap", file))
	_, err = file.WriteAt(make([]byte, 1<<20), 0)
	must(v.t, err)
	for _, step := range []func() error{func() error { return m.Mirror(ctx) }, func() error { return m.Memory(ctx) }, func() error { return m.Drained(ctx, 1) },
		func() error {
			return m.Merge(ctx, nothing, func(context.Context) error {
				if dead() {
					return errBroken
				}
				if v.q.runs() {
					v.t.Error("the commit is completed under a running guest")
				}
				v.q.merge()
				return nil
			})
		}, func() error { return m.GiveUp(ctx) }} {
		if err := step(); err != nil || dead() {
			return file
		}
	}
	return file
}

// The daemon is killed at each command, there and back, carried out or not. The next one brings everything to its end: no overlay was
// ever without a limit, the daemon's own are back, the guest runs, and the state is empty.
func TestHostKilledAtEachCommand(t *testing.T) {
	kills := 0
	for n, ended := 0, false; !ended; n++ {
		for _, carried := range []bool{false, true} {
			d := newDaemon(t, 400<<20)
			v := newMove(t, "vm1")
			ctx, kill := context.WithCancel(background)
			k := &dying{q: v.q, d: d, kill: kill, left: n, carried: carried}
			v.monitor = k
			d.knows("vm1", k)
			h := d.open()
			file := v.thereAndBack(ctx, h, k.dead)
			d.waitFor("its end", func() bool { return k.dead() || h.Member("vm1") == nil })
			state := k.state
			if ended = state == nil; !ended {
				kills++
			}
			must(t, h.Close())
			kill()
			if ended {
				break
			}
			must(t, os.WriteFile(d.config.State, state, 0600))
			d.knows("vm1", v.q)
			h = d.open()
			on := v.q.stacked()
			m := h.Member("vm1")
			switch {
			case m != nil && on:
				if v.q.inForce().Group == hostOwn.Group {
					t.Errorf("command %d, carried out %v: an overlay, and no limit: %+v", n, carried, v.q.inForce())
				}
				must(t, m.Merge(background, nothing, func(context.Context) error { v.q.merge(); return nil }))
				must(t, m.GiveUp(background))
			case on:
				t.Errorf("command %d, carried out %v: an overlay, and nobody knows of it", n, carried)
				v.q.merge()
			}
			d.waitFor("the end", func() bool { return h.Member("vm1") == nil && len(d.members()) == 0 })
			if err := isAsBefore(v.q); err != nil {
				t.Errorf("command %d, carried out %v: %v", n, carried, err)
			}
			if file != nil {
				file.Close()
			}
		}
	}
	if kills < 20 { // looks come as the clock has it; without them there are so many at least
		t.Error("only", kills, "kills")
	}
}

// Many migrations are taken on at once, of QEMUs that are gone.
func TestHostTakesManyOn(t *testing.T) {
	d := newDaemon(t, 4000<<20)
	h := d.open()
	for i := uint64(0); i < 20; i++ {
		v := newMove(t, fmt.Sprint("vm", i))
		v.link = i
		_, err := h.Migrate(background, v.vm())
		must(t, err)
	}
	d.dies(h)
	h = d.open()
	d.waitFor("the end", func() bool { return h.Stats().Members == 0 && len(d.members()) == 0 })
}
