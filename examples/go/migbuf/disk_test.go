// SPDX-License-Identifier: MIT

package migbuf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	background = context.Background()
	hostOwn    = ThrottleConfig{BpsRd: 5000, IopsWr: 400, IopsWrMax: 900, IopsWrMaxLength: 2, Group: "dev-n0"}
)

func units(n uint64) Limits { return Limits{IopsWr: n, IopsSize: 65536} }

func set(n uint64) Decision { return Decision{Action: ActionLower, Limits: units(n)} }

func newDisk(t *testing.T, nodes ...string) *Disk {
	t.Helper()
	d, err := NewDisk("migbuf-vm1", nodes...)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

func TestDisk(t *testing.T) {
	for _, noGroups := range []bool{false, true} {
		q := newQEMU(hostOwn)
		q.refuses["object-add"], q.refuses["qom-set"] = noGroups, noGroups
		d := newDisk(t, "n0")
		if err := d.Set(background, q, units(10)); !errors.Is(err, ErrState) || OutcomeOf(err) != OutcomeRefused {
			t.Error("set before learning:", err, OutcomeOf(err))
		}
		must(t, d.Learn(background, q))
		if got, err := d.Host("n0"); err != nil || got != hostOwn || d.QDev("n0") != "dev-n0" || d.QDev("n1") != "" {
			t.Errorf("%+v %v", got, err)
		}
		must(t, d.Set(background, q, units(10)))
		if c := q.inForce(); c.IopsWr != 10 || c.IopsSize != 65536 || c.IopsWrMax != 0 || c.BpsRd != 5000 {
			t.Errorf("%+v", c)
		}
		must(t, d.Set(background, q, units(8)))
		if c := q.inForce(); c.IopsWr != 8 {
			t.Errorf("%+v %q", c, q.said)
		}
		must(t, d.Set(background, q, units(10)))
		info, err := d.Info()
		if err != nil || !info.Throttled || info.Plain != noGroups || info.Limits.IopsWr != 10 || info.Unknown || info.Stopped {
			t.Errorf("%+v %v %q", info, err, q.said)
		}
		before := q.count()
		must(t, d.Set(background, q, units(10)))
		must(t, d.Apply(background, q, Decision{Action: ActionKeep}))
		must(t, d.Apply(background, q, Decision{Action: ActionWait}))
		if q.count() != before {
			t.Error("a limit in force was sent again:", q.said[before:])
		}
		text, err := d.Save()
		must(t, err)

		d, err = LoadDisk(text) // a host that was restarted
		must(t, err)
		must(t, d.Pump(background, q))
		must(t, d.Apply(background, q, Decision{Action: ActionPause}))
		if info, _ := d.Info(); q.running || !info.Stopped {
			t.Errorf("%+v", info)
		}
		must(t, d.Apply(background, q, Decision{Action: ActionResume, Limits: units(20)}))
		if info, _ := d.Info(); !q.running || info.Stopped || q.inForce().IopsWr != 20 {
			t.Errorf("%+v %+v", info, q.inForce())
		}
		sent := q.count()
		must(t, d.Apply(background, q, Decision{Action: ActionRearm}))
		if q.count() == sent {
			t.Error("Again sent nothing")
		}
		must(t, d.Apply(background, q, Decision{Action: ActionCannotFit}))
		must(t, d.Restore(background, q))
		if q.objects["migbuf-vm1"] || q.inForce() != hostOwn || !q.running {
			t.Errorf("%+v %v %v", q.inForce(), q.objects, q.running)
		}
		must(t, d.Close())
	}
}

// A stop of somebody else's is not ended by ours.
func TestAnotherStop(t *testing.T) {
	q, d := newQEMU(hostOwn), newDisk(t, "n0")
	must(t, d.Learn(background, q))
	must(t, d.Apply(background, q, set(10)))
	q.running = false
	must(t, d.Apply(background, q, Decision{Action: ActionPause}))
	must(t, d.Apply(background, q, Decision{Action: ActionResume, Limits: units(10)}))
	must(t, d.Restore(background, q))
	if q.running {
		t.Errorf("%q", q.said)
	}
}

func TestDiskRefused(t *testing.T) {
	d := newDisk(t, "n0")
	q := newQEMU(ThrottleConfig{})
	q.disks[0].node = "other"
	if err := d.Learn(background, q); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	q = newQEMU(hostOwn)
	must(t, d.Learn(background, q))
	must(t, d.Apply(background, q, set(20)))
	for _, decision := range []Decision{set(10), {Action: ActionRaise, Limits: units(30)}, {Action: ActionPause}} {
		before := q.inForce()
		q.refuses["qom-set"], q.refuses["block_set_io_throttle"], q.refuses["stop"] = true, true, true
		err := d.Apply(background, q, decision)
		var cause qemuError
		if !errors.Is(err, ErrPeer) || errors.Is(err, ErrUnknown) || !errors.As(err, &cause) || OutcomeOf(err) != OutcomeRefused {
			t.Errorf("%v: %v, %v", decision.Action, err, OutcomeOf(err))
		}
		if q.inForce() != before || !q.running {
			t.Errorf("%v: %+v", decision.Action, q.inForce())
		}
		q.refuses = map[string]bool{}
	}
	must(t, d.Restore(background, q))
	if q.inForce() != hostOwn {
		t.Errorf("%+v", q.inForce())
	}
}

// One of two disks takes no limits: the other is served, and it is no success.
func TestPartOfIt(t *testing.T) {
	for not := 0; not < 2; not++ {
		q := newQEMU(hostOwn)
		q.disks = append(q.disks, fakeDisk{"n1", "dev-n1", ""})
		d := newDisk(t, "n0", "n1")
		must(t, d.Learn(background, q))
		q.refuses["block_set_io_throttle "+q.disks[not].qdev] = true
		err := d.Apply(background, q, set(10))
		if !errors.Is(err, ErrPeer) || !errors.Is(err, ErrUnknown) || OutcomeOf(err) != OutcomeUnknown || !strings.Contains(err.Error(), "as the test wants it") {
			t.Error(not, err, OutcomeOf(err))
		}
		if c := q.config(q.disks[1-not]); c.IopsWr != 10 {
			t.Errorf("%d: %+v", not, c)
		}
		q.refuses = map[string]bool{}
		must(t, d.Apply(background, q, set(10)))
		must(t, d.Restore(background, q))
		must(t, isAsBefore(q))
	}
}

// A stranger's group has too long a name: that is no reason to learn nothing. One of ours is.
func TestLongGroup(t *testing.T) {
	long := strings.Repeat("g", 300)
	q := newQEMU(hostOwn)
	q.disks = append(q.disks, fakeDisk{"n1", "dev-n1", long})
	must(t, newDisk(t, "n0").Learn(background, q))
	err := newDisk(t, "n0", "n1").Learn(background, q)
	if !errors.Is(err, ErrTooBig) || OutcomeOf(err) != OutcomeUnknown {
		t.Error(err)
	}
}

// An answer that does not say what was asked for is no answer.
func TestUnreadable(t *testing.T) {
	const five = `{"return": [{"qdev": "d", "inserted": {"node-name": "n0", "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0`
	for reply, want := range map[string]Code{`{}`: ErrProtocol, `{"return": null}`: ErrProtocol, `{"return": []}`: ErrNotFound,
		five + `, "iops_wr": 2000000000000000}}]}`: ErrRange, five + `}}]}`: ErrProtocol, five + `, "iops_wr": null}}]}`: ErrProtocol,
		five + `, "iops_wr": -1}}]}`: ErrUnknown, five + `, "iops_wr": "7"}}]}`: ErrUnknown, `{"return": [7]}`: ErrUnknown,
		`{"return": {}}`: ErrUnknown, `{"return": [{"qdev": "d", "inserted": 7}]}`: ErrUnknown} {
		d := newDisk(t, "n0")
		err := d.Learn(background, runFunc(func(_ string, resp any) error { return json.Unmarshal([]byte(reply), resp) }))
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", reply, err)
		}
	}
	q, d := newQEMU(hostOwn), newDisk(t, "n0")
	must(t, d.Learn(background, q))
	must(t, d.Apply(background, q, set(10)))
	err := d.Apply(background, runFunc(func(string, any) error { return nil }), Decision{Action: ActionPause}) // says nothing of query-status
	if !errors.Is(err, ErrProtocol) || !q.running {
		t.Error(err)
	}
	for _, reply := range []string{`{}`, `{"return": {}}`, `{"return": {"status": "paused"}}`, `{"return": {"status": "paused", "running": null}}`} {
		err = d.Apply(background, runFunc(func(_ string, resp any) error { return json.Unmarshal([]byte(reply), resp) }), Decision{Action: ActionPause})
		if !errors.Is(err, ErrProtocol) || !q.running {
			t.Error(reply, err)
		}
	}
	must(t, d.Apply(background, q, Decision{Action: ActionPause}))
}

type runFunc func(command string, resp any) error

func (f runFunc) Run(_ context.Context, command string, _ any, resp any) error {
	return f(command, resp)
}

// What a host says of an error decides: without its word an error is no refusal.
func TestWhoRefused(t *testing.T) {
	own := errors.New("GenericError: the limits are too high")
	for _, c := range []struct {
		say  func(error) error
		want Outcome
	}{
		{func(err error) error { return err }, OutcomeUnknown},
		{Refused, OutcomeRefused},
		{func(err error) error { return fmt.Errorf("stop: %w", Refused(err)) }, OutcomeRefused},
		{func(error) error { return context.Canceled }, OutcomeUnknown},
		{func(error) error { return ErrPeer }, OutcomeRefused},
		{func(error) error { return &Error{Op: "mine", Code: ErrTimeout} }, OutcomeUnknown},
	} {
		q, d := newQEMU(hostOwn), newDisk(t, "n0")
		must(t, d.Learn(background, q))
		must(t, d.Apply(background, q, set(10)))
		err := d.Apply(background, runFunc(func(command string, resp any) error {
			if command == "stop" {
				return c.say(own)
			}
			return q.Run(background, command, nil, resp)
		}), Decision{Action: ActionPause})
		if OutcomeOf(err) != c.want || errors.Is(err, ErrPeer) != (c.want == OutcomeRefused) || errors.Is(err, ErrUnknown) != (c.want == OutcomeUnknown) {
			t.Errorf("%v: %v, not %v", err, OutcomeOf(err), c.want)
		}
		must(t, d.Restore(background, q))
	}
	if Refused(nil) != nil || OutcomeOf(nil) != OutcomeDone || OutcomeOf(errors.New("another's")) != OutcomeUnknown {
		t.Error("nil")
	}
	if err := Refused(own); !errors.Is(err, own) || !errors.Is(err, ErrPeer) || err.Error() != own.Error() {
		t.Error(err)
	}
}

// The texts of LXD's and Incus' monitors.
func TestRefusedByText(t *testing.T) {
	for text, want := range map[string]bool{
		"GenericError: Device 'dev-x' not found": true, "CommandNotFound: The command x has not been found": true,
		"DeviceNotFound: Device 'x' not found": true, "Monitor is disconnected": false, "Monitor has exited": false,
		`Monitor command timed out: "query-block" after 500ms`: false, "write unix @->/run/qemu.monitor: broken pipe": false,
		`Unexpected monitor response: invalid character 'x' ("GenericError: x")`: false, "GenericErrors: x": false,
	} {
		if RefusedByText(errors.New(text)) != want || RefusedByText(fmt.Errorf("Failed setting limits: %w", errors.New(text))) != want {
			t.Error(text)
		}
	}
	if RefusedByText(nil) {
		t.Error("nil")
	}
	q := newQEMU(hostOwn)
	q.refuses["object-add"], q.refuses["qom-set"] = true, true
	for _, c := range []struct {
		refused func(error) bool
		want    Outcome
	}{{RefusedByText, OutcomeDone}, {nil, OutcomeUnknown}} {
		d := newDisk(t, "n0")
		m := FromRunner(noContext{q}, c.refused)
		must(t, d.Learn(background, m))
		if err := d.Set(background, m, units(10)); OutcomeOf(err) != c.want {
			t.Error(err, c.want)
		}
		must(t, d.Restore(background, q))
	}
}

type noContext struct{ q *fakeQEMU }

func (m noContext) Run(command string, args any, resp any) error {
	return m.q.carryOut(command, args, resp)
}

// life is a throttle's, with all that it ever sends.
var life = []struct {
	name string
	do   func(*Disk, Monitor) error
	want uint64 // iops_wr in force afterwards; 0: does not matter
}{
	{"learn", func(d *Disk, m Monitor) error { return d.Learn(background, m) }, 0},
	{"first", func(d *Disk, m Monitor) error { return d.Apply(background, m, set(100)) }, 100},
	{"lower", func(d *Disk, m Monitor) error { return d.Apply(background, m, set(50)) }, 50},
	{"pause", func(d *Disk, m Monitor) error { return d.Apply(background, m, Decision{Action: ActionPause}) }, 50},
	{"resume", func(d *Disk, m Monitor) error {
		return d.Apply(background, m, Decision{Action: ActionResume, Limits: units(80)})
	}, 80},
	{"again", func(d *Disk, m Monitor) error { return d.Apply(background, m, Decision{Action: ActionRearm}) }, 80},
	{"raise", func(d *Disk, m Monitor) error {
		return d.Apply(background, m, Decision{Action: ActionRaise, Limits: units(200)})
	}, 200},
	{"verify", func(d *Disk, m Monitor) error { return d.Learn(background, m) }, 200},
	{"restore", func(d *Disk, m Monitor) error { return d.Restore(background, m) }, 0},
}

// lives goes through it as a host would: what was not done is asked for again.
func lives(d *Disk, m *faulty, q *fakeQEMU, died func() bool) error {
	for _, step := range life {
		for tries := 0; ; tries++ {
			before := q.inForce()
			err := step.do(d, m)
			if died() {
				return nil
			}
			if err == nil {
				break
			}
			if !errors.Is(err, ErrUnknown) || !errors.Is(err, errNoAnswer) {
				return fmt.Errorf("%s: %v", step.name, err)
			}
			if o := OutcomeOf(err); o != OutcomeUnknown && !(o == OutcomeRefused && strings.HasPrefix(m.lost, "query-") && q.inForce() == before) {
				return fmt.Errorf("%s: %v, %v; in force is %+v", step.name, err, o, q.inForce())
			}
			if tries > 5 {
				return fmt.Errorf("%s: does not come to an end: %v", step.name, err)
			}
		}
		c := q.inForce()
		if step.want != 0 && (c.IopsWr != step.want || c.BpsRd != hostOwn.BpsRd) {
			return fmt.Errorf("%s: %+v is in force", step.name, c)
		}
		if step.name != "pause" == !q.running {
			return fmt.Errorf("%s: running %v", step.name, q.running)
		}
	}
	return nil
}

func isAsBefore(q *fakeQEMU) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c := q.config(q.disks[0]); c != hostOwn || len(q.objects) > 0 || !q.running {
		return fmt.Errorf("left behind: %+v, groups %v, running %v", c, q.objects, q.running)
	}
	return nil
}

// Whichever answer is lost, and whatever becomes of its command: what is wanted comes into force, and in the end the host's
// own limits are back, exactly. The same when the host's process dies there, and another one loads what was saved.
func TestLostAnswers(t *testing.T) {
	for _, noGroups := range []bool{false, true} {
		whole := &faulty{q: newQEMU(hostOwn)}
		whole.q.refuses["object-add"], whole.q.refuses["qom-set"] = noGroups, noGroups
		must(t, lives(newDisk(t, "n0"), whole, whole.q, func() bool { return false }))
		if whole.sent < 15 {
			t.Fatal("so short a life tells nothing:", whole.q.said)
		}
		for at := 0; at < whole.sent; at++ {
			for f := landed; f <= late; f++ {
				for n := 1; n <= 3; n++ {
					for _, dies := range []bool{false, true} {
						err := loseAnswers(t, noGroups, &faulty{fate: f, at: at, n: n}, dies)
						if err != nil {
							t.Errorf("no groups %v, answers %d to %d of %s, %v, the host dies %v: %v", noGroups, at, at+n-1, whole.q.said[at], f, dies, err)
						}
					}
				}
			}
		}
	}
}

func loseAnswers(t *testing.T, noGroups bool, m *faulty, dies bool) error {
	m.q = newQEMU(hostOwn)
	m.q.refuses["object-add"], m.q.refuses["qom-set"] = noGroups, noGroups
	var text string
	d := newDisk(t, "n0")
	d.SaveWith(func(_ context.Context, s string) error { text = s; return nil })
	if err := lives(d, m, m.q, func() bool { return dies && m.sent > m.at }); err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil || info.TakenOver != 0 || info.Unclear != 0 {
		return fmt.Errorf("%+v %v", info, err)
	}
	if !dies {
		return isAsBefore(m.q)
	}
	if text == "" { // it died before there was anything of ours
		return isAsBefore(m.q)
	}
	m.n = 0
	for _, carryOut := range m.waiting { // QEMU works off what it was sent before it takes a new connection
		carryOut()
	}
	m.waiting = nil
	d, err = LoadDisk(text)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Pump(background, m); err != nil {
		return err
	}
	if err := d.Restore(background, m); err != nil {
		return err
	}
	return isAsBefore(m.q)
}

// Saved is each new text before the next command is sent; where it cannot be saved, none is sent.
func TestSaver(t *testing.T) {
	q, d := newQEMU(hostOwn), newDisk(t, "n0")
	var text string
	broken := errors.New("no space left on device")
	var fails error
	d.SaveWith(func(ctx context.Context, s string) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if fails == nil {
			text = s
		}
		return fails
	})
	must(t, d.Learn(background, q))
	stops := func() bool {
		l, err := LoadDisk(text)
		must(t, err)
		defer l.Close()
		info, err := l.Info()
		must(t, err)
		return info.Stopped
	}
	if text == "" || stops() {
		t.Fatalf("%q", text)
	}
	m := monitorFunc(func(command string, args any, resp any) error {
		if command != "query-block" && text == "" {
			t.Error(command, "is sent, and the host's own limits are not saved")
		}
		if command == "stop" && !stops() {
			t.Error("stop is sent, and nobody would know who stopped it")
		}
		if info, err := d.Info(); err != nil || info.TextRevision == 0 {
			t.Error(info, err)
		}
		return q.Run(background, command, args, resp)
	})
	must(t, d.Apply(background, m, set(100)))
	must(t, d.Apply(background, m, Decision{Action: ActionPause}))
	if !stops() {
		t.Error("it stands because of us")
	}
	fails = broken
	count := q.count()
	err := d.Apply(background, m, Decision{Action: ActionResume, Limits: units(7)})
	if !errors.Is(err, broken) || q.running && !stops() {
		t.Error(err, q.running)
	}
	fails = nil
	must(t, d.Apply(background, m, Decision{Action: ActionResume, Limits: units(7)}))
	if stops() || q.count() == count {
		t.Error("what is saved is not what is so")
	}

	other, p := newDisk(t, "n0"), newQEMU(hostOwn)
	other.SaveWith(func(context.Context, string) error { return broken })
	if err := other.Learn(background, p); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := other.Set(background, p, units(3)); !errors.Is(err, broken) || OutcomeOf(err) != OutcomeUnknown || p.inForce() != hostOwn {
		t.Error(err, OutcomeOf(err), p.inForce())
	}
	fails = nil
	told := ThrottleConfig{IopsWr: 123}
	must(t, d.TellHostLimits(background, "n0", told))
	l, err := LoadDisk(text)
	must(t, err)
	must(t, l.Pump(background, q))
	if got, err := l.Host("n0"); err != nil || got.IopsWr != 123 {
		t.Errorf("%+v %v", got, err)
	}
	must(t, l.Close())
	if err := d.TellHostLimits(background, "n7", told); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	told.Group = strings.Repeat("g", 256)
	if err := d.TellHostLimits(background, "n0", told); !errors.Is(err, ErrTooBig) {
		t.Error(err)
	}
}

type monitorFunc func(command string, args any, resp any) error

func (f monitorFunc) Run(_ context.Context, command string, args any, resp any) error {
	return f(command, args, resp)
}

// held is a monitor that answers when the test says so, whatever becomes of the context.
type held struct {
	q      *fakeQEMU
	asked  chan string
	answer chan error // nil: QEMU's own
	mu     sync.Mutex
	inside int
	most   int
}

func newHeld(q *fakeQEMU) *held {
	return &held{q: q, asked: make(chan string, 100), answer: make(chan error)}
}

func (m *held) Run(ctx context.Context, command string, args any, resp any) error {
	m.mu.Lock()
	m.inside++
	if m.inside > m.most {
		m.most = m.inside
	}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.inside--
		m.mu.Unlock()
	}()
	m.asked <- command
	if err := <-m.answer; err != nil {
		return err
	}
	return m.q.Run(ctx, command, args, resp)
}

// A context ends the waiting, not the command: the outcome is unknown, the next call waits until the monitor has returned,
// and asks before it believes anything.
func TestContext(t *testing.T) {
	for _, answer := range []error{nil, errNoAnswer, context.Canceled, Refused(errNoAnswer)} {
		for _, pause := range []bool{false, true} {
			q, d := newQEMU(hostOwn), newDisk(t, "n0")
			must(t, d.Learn(background, q))
			must(t, d.Apply(background, q, set(100)))
			m := newHeld(q)
			ctx, cancel := context.WithCancel(background)
			came := make(chan error)
			decision := set(5)
			if pause {
				decision = Decision{Action: ActionPause}
			}
			go func() { came <- d.Apply(ctx, m, decision) }()
			if command := <-m.asked; pause { // query-status, then stop
				m.answer <- nil
				command = <-m.asked
				if command != "stop" {
					t.Fatal(command)
				}
			}
			cancel()
			err := <-came
			if !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) || OutcomeOf(err) != OutcomeUnknown {
				t.Fatal(err)
			}
			info, _ := d.Info() // which waits for nobody
			if !info.Unknown || d.Outcome() != OutcomeUnknown || info.Stopped != pause {
				t.Errorf("%+v %v", info, d.Outcome())
			}
			if err := d.Pump(ctx, m); !errors.Is(err, context.Canceled) || OutcomeOf(err) != OutcomeUnknown {
				t.Error(err)
			}
			short, end := context.WithCancel(background)
			go func() { came <- d.Learn(short, m) }()
			end() // while the first command has not come back
			if err := <-came; !errors.Is(err, context.Canceled) || OutcomeOf(err) != OutcomeUnknown {
				t.Error(err)
			}
			go func() { came <- d.Pump(background, m) }()
			time.Sleep(20 * time.Millisecond) // in which it would overtake, if it could
			m.answer <- answer                // of the first command, at last; it is of no use any more
			if err := <-came; !errors.Is(err, ErrUnknown) || OutcomeOf(err) != OutcomeUnknown || len(m.asked) != 0 {
				t.Error("only a question helps:", err)
			}
			go func() { came <- d.Restore(background, m) }()
			first := ""
			for done := false; !done; {
				select {
				case command := <-m.asked:
					if first == "" {
						first = command
					}
					m.answer <- nil
				case err := <-came:
					must(t, err)
					done = true
				}
			}
			if first != "query-block" && first != "query-status" {
				t.Error("after an unknown outcome the first command is", first)
			}
			if m.most != 1 {
				t.Error("a command overtakes another one")
			}
			must(t, isAsBefore(q))
			if info, _ := d.Info(); info.TakenOver != 0 || !info.Restored {
				t.Errorf("%+v", info)
			}
		}
	}
}

// A monitor that never answers holds a Disk up, but nobody longer than his context, and no goroutines pile up.
func TestNever(t *testing.T) {
	q, d := newQEMU(hostOwn), newDisk(t, "n0")
	must(t, d.Learn(background, q))
	must(t, d.Apply(background, q, set(100)))
	text, err := d.Save()
	must(t, err)
	m := newHeld(q)
	defer func() { m.answer <- errNoAnswer }()
	for i := 0; i < 50; i++ {
		ctx, cancel := context.WithCancel(background)
		came := make(chan error)
		go func() { came <- d.Apply(ctx, m, set(5)) }()
		if i == 0 {
			<-m.asked
		}
		cancel()
		if err := <-came; !errors.Is(err, context.Canceled) || OutcomeOf(err) != OutcomeUnknown {
			t.Fatal(err)
		}
	}
	if m.most != 1 || len(m.asked) != 0 {
		t.Error(m.most, len(m.asked))
	}
	d2, err := LoadDisk(text) // with a new connection
	must(t, err)
	must(t, d2.Pump(background, q))
	must(t, d2.Restore(background, q))
	must(t, d2.Close())
	must(t, isAsBefore(q))
}

// A context that has ended sends nothing.
func TestContextEndedBefore(t *testing.T) {
	q, d := newQEMU(hostOwn), newDisk(t, "n0")
	must(t, d.Learn(background, q))
	ended, end := context.WithCancel(background)
	end()
	sent := q.count()
	for i := 0; i < 20; i++ {
		for _, err := range []error{d.Learn(ended, q), d.Set(ended, q, units(1)), d.Apply(ended, q, set(1)), d.Pump(ended, q), d.Restore(ended, q),
			d.TellHostLimits(ended, "n0", ThrottleConfig{})} {
			if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrTimeout) || !errors.Is(err, ErrUnknown) {
				t.Error(err)
			}
		}
	}
	if q.count() != sent {
		t.Error(q.said)
	}
	for i := 0; i < 50; i++ { // a context that ends while the first command is answered: there is no second one
		between, end := context.WithCancel(background)
		sent := q.count()
		err := d.Set(between, monitorFunc(func(command string, args any, resp any) error {
			defer end()
			return q.Run(background, command, args, resp)
		}), units(uint64(i)+1))
		if !errors.Is(err, context.Canceled) || OutcomeOf(err) != OutcomeUnknown {
			t.Fatal(err)
		}
		must(t, d.Learn(background, nil)) // waits until it has come back
		if q.count() > sent+1 {
			t.Fatal(q.said[sent:])
		}
		must(t, d.Restore(background, q))
	}
	must(t, isAsBefore(q))
}

// Incus' monitor: each kind of command has its time-out. QEMU hangs, and carries the commands out when it goes on.
func TestIncusTimeouts(t *testing.T) {
	q, d := newQEMU(hostOwn), newDisk(t, "n0")
	clock := newClock()
	incus := newIncus(t, q, clock)
	m := FromRunner(incus, refusedByQEMU)
	must(t, d.Learn(background, m))
	must(t, d.Apply(background, m, set(100)))
	for _, c := range []struct {
		decision Decision
		timeout  string // of the command that is lost
	}{
		{set(50), "500ms"}, // qom-set
		{Decision{Action: ActionRaise, Limits: units(300)}, "5s"},
		{Decision{Action: ActionPause}, "500ms"}, // query-status comes first
		{Decision{Action: ActionResume, Limits: units(80)}, "500ms"},
	} {
		incus.hangs.Lock()
		came := make(chan error)
		go func() { came <- d.Apply(background, m, c.decision) }()
		clock.advance(clock.somebodyWaits())
		err := <-came
		if !errors.Is(err, errMonitorTimeout) || !errors.Is(err, ErrUnknown) || !strings.HasSuffix(err.Error(), "after "+c.timeout) {
			t.Errorf("%v: %v", c.decision.Action, err)
		}
		go func() { came <- d.Learn(background, m) }() // while it still hangs
		if left := clock.somebodyWaits(); left.Milliseconds() != 500 {
			t.Error("query-block waits", left)
		}
		clock.advance(clock.somebodyWaits())
		if err := <-came; !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		incus.hangs.Unlock()
		incus.hasDone()
		must(t, d.Learn(background, m))
		must(t, d.Apply(background, m, c.decision))
		if c.decision.Limits.IopsWr != 0 && q.inForce().IopsWr != c.decision.Limits.IopsWr {
			t.Errorf("%v: %+v", c.decision.Action, q.inForce())
		}
		if q.running == c.decision.Action.Stops() {
			t.Errorf("%v: running %v", c.decision.Action, q.running)
		}
	}
	must(t, d.Restore(background, m))
	must(t, isAsBefore(q))
	if info, err := d.Info(); err != nil || info.TakenOver != 0 || !info.Restored {
		t.Errorf("%+v %v", info, err)
	}
}

// The machine by hand, for a host that sends commands in a way of its own.
func TestMachine(t *testing.T) {
	d := newDisk(t)
	must(t, d.Watch("n0"))
	if _, more, err := d.Next(); more || err != nil {
		t.Error(more, err)
	}
	if err := d.Answered(OutcomeDone); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	must(t, d.Learn(background, newQEMU(ThrottleConfig{})))
	must(t, d.Set(background, nil, units(10)))
	if o := d.Outcome(); o != 0 || o.String() != "open" {
		t.Error(o)
	}
	c, more, err := d.Next()
	if err != nil || !more || c.Kind != CommandAddGroup || c.Name != "object-add" || !json.Valid(c.Arguments) {
		t.Errorf("%+v %v %v", c, more, err)
	}
	must(t, d.Answered(OutcomeRefused)) // there is another way
	c, more, err = d.Next()
	if err != nil || !more || c.Kind != CommandSetDisk {
		t.Errorf("%+v %v %v", c, more, err)
	}
	if _, err := d.Found("n0", "dev", ThrottleConfig{}); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	if err := d.Status("running", true); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	if err := d.Answered(9); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if err := d.Answered(OutcomeUnknown); !errors.Is(err, ErrUnknown) || d.Outcome() != OutcomeUnknown {
		t.Error(err, d.Outcome())
	}
	must(t, d.Learn(background, nil))
	c, more, err = d.Next()
	if err != nil || !more || c.Kind != CommandQuery {
		t.Errorf("%+v %v %v", c, more, err)
	}
	if ours, err := d.Found("n0", "dev-n0", ThrottleConfig{}); !ours || err != nil {
		t.Error(ours, err)
	}
	must(t, d.Answered(OutcomeDone))
}

// Several goroutines may use one buffer and one disk. Run with -race.
func TestConcurrentUse(t *testing.T) {
	b := newBuffer(t, 10*gib)
	d := newDisk(t, "n0")
	q := newQEMU(hostOwn)
	var wait sync.WaitGroup
	for g := 0; g < 8; g++ {
		wait.Add(1)
		go func(id uint64) {
			defer wait.Done()
			for i := 0; i < 50; i++ {
				_ = b.Add(NewMigration(id), vm(gib))
				_ = b.Sample(Clock(), []Sample{{ID: id, FileBytes: uint64(i) << 16}})
				decisions, _ := b.Tick(Clock(), nil)
				for _, decision := range decisions {
					_, _ = b.Outcome(decision.ID, OutcomeOf(d.Apply(background, q, decision)))
				}
				_, _ = b.Stats()
				ctx, cancel := context.WithCancel(background)
				if i%3 == 0 {
					cancel()
				}
				_ = d.Learn(ctx, q)
				_ = d.Set(background, q, units(10+id))
				_, _ = d.Info()
				_, _ = d.Save()
				_ = b.Remove(id)
				cancel()
			}
		}(uint64(g))
	}
	wait.Wait()
	must(t, d.Restore(background, q))
	must(t, isAsBefore(q))
}

// lxdMonitor has LXD's signatures. lose: the answer to what is carried out does not come.
type lxdMonitor struct {
	q    *fakeQEMU
	said []string
	lose bool
}

func (m *lxdMonitor) SetBlockThrottle(id string, bytesRead int, bytesWrite int, iopsRead int, iopsWrite int) error {
	m.said = append(m.said, fmt.Sprint(id, " ", bytesRead, bytesWrite, iopsRead, iopsWrite))
	return m.end(m.q.carryOut("block_set_io_throttle", map[string]any{"id": id, "bps": 0, "bps_rd": bytesRead, "bps_wr": bytesWrite,
		"iops": 0, "iops_rd": iopsRead, "iops_wr": iopsWrite}, nil))
}

func (m *lxdMonitor) end(err error) error {
	if m.lose {
		return errNoAnswer
	}
	return err
}

func (m *lxdMonitor) Status() (string, error) {
	return map[bool]string{true: "running", false: "paused"}[m.q.running], m.end(nil)
}

func (m *lxdMonitor) Pause() error {
	m.said = append(m.said, "pause")
	return m.end(m.q.carryOut("stop", nil, nil))
}

func (m *lxdMonitor) Start() error {
	m.said = append(m.said, "start")
	return m.end(m.q.carryOut("cont", nil, nil))
}

func TestLXD(t *testing.T) {
	own := ThrottleConfig{IopsRd: 700, Group: "dev-n0"}
	q := newQEMU(own)
	m := &lxdMonitor{q: q}
	adapter := FromLXD(m, refusedByQEMU, LXDDisk{Node: "n0", QDev: "dev-n0", Host: own})
	d := newDisk(t, "n0")
	must(t, d.SixRates())
	must(t, d.Learn(background, adapter))
	geometry := vm(gib)
	geometry[0].Flags |= GeometryNoIopsSize
	limits, err := LimitsFromBudget(geometry, 10<<20)
	must(t, err)
	must(t, d.Apply(background, adapter, Decision{Action: ActionLower, Limits: limits}))
	must(t, d.Apply(background, adapter, Decision{Action: ActionPause}))
	must(t, d.Learn(background, adapter))
	must(t, d.Apply(background, adapter, Decision{Action: ActionResume, Limits: Limits{IopsWr: 200, BpsWr: 2000}}))
	must(t, d.Restore(background, adapter))
	want := []string{"dev-n0 0 5242880 700 80", "pause", "dev-n0 0 2000 700 200", "start", "dev-n0 0 0 700 0"}
	if !reflect.DeepEqual(m.said, want) || q.inForce() != own {
		t.Errorf("%q %+v", m.said, q.inForce())
	}
	for _, c := range []struct {
		command string
		args    any
	}{{"block_set_io_throttle", map[string]any{"id": "dev-n0", "iops_size": 1}}, {"blockdev-add", nil},
		{"block_set_io_throttle", map[string]any{"id": "another"}}, {"block_set_io_throttle", "text"}} {
		if err := adapter.Run(background, c.command, c.args, nil); !errors.Is(err, ErrUnsupported) || !errors.Is(err, ErrPeer) {
			t.Error(c, err) // nothing was sent
		}
	}
}

// A new process knows only the configuration and what was saved: the limits of the process before it go all the same.
func TestLXDRestarted(t *testing.T) {
	q := newQEMU(ThrottleConfig{})
	m, from := &lxdMonitor{q: q}, LXDDisk{Node: "n0", QDev: "dev-n0"} // no limits.* in the configuration
	d := newDisk(t, "n0")
	must(t, d.SixRates())
	adapter := FromLXD(m, refusedByQEMU, from)
	must(t, d.Learn(background, adapter))
	text, err := d.Save()
	must(t, err)
	must(t, d.Set(background, adapter, Limits{IopsWr: 5, BpsWr: 327680}))
	if q.inForce().IopsWr != 5 {
		t.Fatalf("%+v", q.inForce())
	}
	for _, restores := range []bool{false, true} { // and the new one dies before it has restored anything
		d, err = LoadDisk(text)
		must(t, err)
		adapter = FromLXD(m, refusedByQEMU, from)
		must(t, d.Pump(background, adapter))
		if restores {
			must(t, d.Restore(background, adapter))
		}
		must(t, d.Close())
	}
	if q.inForce() != (ThrottleConfig{}) {
		t.Errorf("%+v is in force, and the host has none; %q", q.inForce(), m.said)
	}

	// The configuration was changed in between.
	from.Host = ThrottleConfig{IopsWr: 77}
	d, err = LoadDisk(text)
	must(t, err)
	defer d.Close()
	adapter = FromLXD(m, refusedByQEMU, from)
	must(t, d.Pump(background, adapter))
	must(t, d.TellHostLimits(background, "n0", from.Host))
	must(t, d.Restore(background, adapter))
	if c := q.inForce(); c.IopsWr != 77 || c.BpsWr != 0 {
		t.Errorf("%+v", c)
	}
}

// SixRates methods cannot ask. After a lost answer the same is set again, and it is known then.
func TestLXDLostAnswers(t *testing.T) {
	own := ThrottleConfig{IopsWr: 900, Group: "dev-n0"}
	sixRates := func(n uint64) Limits { return Limits{IopsWr: n, BpsWr: n * 65536} }
	steps := []func(*Disk, Monitor) error{
		func(d *Disk, m Monitor) error { return d.Learn(background, m) },
		func(d *Disk, m Monitor) error { return d.Set(background, m, sixRates(100)) },
		func(d *Disk, m Monitor) error {
			return d.Apply(background, m, Decision{Action: ActionLower, Limits: sixRates(50)})
		},
		func(d *Disk, m Monitor) error { return d.Apply(background, m, Decision{Action: ActionPause}) },
		func(d *Disk, m Monitor) error {
			return d.Apply(background, m, Decision{Action: ActionResume, Limits: sixRates(60)})
		},
		func(d *Disk, m Monitor) error { return d.Restore(background, m) },
	}
	wants := []uint64{900, 100, 50, 50, 60, 900}
	for lost := range steps {
		for _, carriedOut := range []bool{true, false} {
			q := newQEMU(own)
			m := &lxdMonitor{q: q}
			adapter := FromLXD(m, refusedByQEMU, LXDDisk{Node: "n0", QDev: "dev-n0", Host: own})
			d := newDisk(t, "n0")
			must(t, d.SixRates())
			for i, step := range steps {
				if i == lost && i > 0 {
					m.lose = true
					if !carriedOut {
						m.q = newQEMU(own) // another one: nothing of it reaches ours
						m.q.running = q.running
					}
					if err := step(d, adapter); !errors.Is(err, ErrUnknown) {
						t.Error(i, err)
					}
					m.lose, m.q = false, q
				}
				must(t, step(d, adapter))
				if q.inForce().IopsWr != wants[i] || q.running == (i == 3) {
					t.Errorf("answers to step %d lost, carried out %v: after step %d %+v, running %v; %q", lost, carriedOut, i, q.inForce(), q.running, m.said)
				}
			}
			if q.inForce() != own {
				t.Errorf("answers to step %d lost, carried out %v: %+v", lost, carriedOut, q.inForce())
			}
		}
	}

	// What was wanted before is wanted again: that it was in force does not say that it is.
	q := newQEMU(own)
	m := &lxdMonitor{q: q}
	adapter, d := FromLXD(m, refusedByQEMU, LXDDisk{Node: "n0", QDev: "dev-n0", Host: own}), newDisk(t, "n0")
	must(t, d.SixRates())
	must(t, d.Learn(background, adapter))
	must(t, d.Set(background, adapter, sixRates(50)))
	m.lose = true
	if err := d.Set(background, adapter, sixRates(300)); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if err := d.Learn(background, adapter); !errors.Is(err, ErrUnknown) {
		t.Error("it is not known yet:", err)
	}
	m.lose = false
	must(t, d.Set(background, adapter, sixRates(50)))
	if q.inForce().IopsWr != 50 {
		t.Errorf("%+v; %q", q.inForce(), m.said)
	}
	q.refuses["block_set_io_throttle"], m.lose = true, true
	if err := d.Set(background, adapter, sixRates(300)); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	m.lose = false // and now it says why
	if err := d.Set(background, adapter, sixRates(60)); !errors.Is(err, ErrPeer) || q.inForce().IopsWr != 50 {
		t.Error(err, q.inForce())
	}
	q.refuses = map[string]bool{}
	must(t, d.Restore(background, adapter))
	if q.inForce() != own {
		t.Errorf("%+v", q.inForce())
	}
}
