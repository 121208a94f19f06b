// SPDX-License-Identifier: MIT

package migbuf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

const gib = 1 << 30

// Records cross as they are: every field of ours lies where the library's lies, has its size and is spelt alike.
func TestLayouts(t *testing.T) {
	for _, pair := range layouts() {
		ours, theirs := pair[0], pair[1]
		whole := ours != reflect.TypeOf(ThrottleConfig{})
		if whole && (ours.Size() != theirs.Size() || ours.NumField() != theirs.NumField()) {
			t.Errorf("%v has %d fields in %d bytes, %v has %d in %d", ours, ours.NumField(), ours.Size(), theirs, theirs.NumField(), theirs.Size())
			continue
		}
		for i := 0; i < theirs.NumField(); i++ {
			a, b := ours.Field(i), theirs.Field(i)
			name := strings.ReplaceAll(b.Name, "_", "")
			if !strings.EqualFold(a.Name, name) {
				t.Errorf("%v.%s stands for %s", ours, a.Name, b.Name)
			}
			if a.Offset != b.Offset || (b.Name != "group" && a.Type.Size() != b.Type.Size()) {
				t.Errorf("%v.%s is at %d, %v.%s at %d", ours, a.Name, a.Offset, theirs, b.Name, b.Offset)
			}
			if (a.Type.Kind() == reflect.Float64) != (b.Type.Kind() == reflect.Float64) {
				t.Errorf("%v.%s is %v, not %v", ours, a.Name, a.Type, b.Type)
			}
		}
	}
}

// What is not bound, by the beginnings of its names, and why.
var leftOut = map[string]string{
	"migbuf_qmp_":    "the host has a monitor of its own, see Monitor",
	"migbuf_report_": "replies are read by encoding/json",
	"migbuf_lxd_":    "who asks LXD or Incus from Go has their own client packages, and the daemons themselves need no REST",

	"migbuf_downtime_": "other projects' rules, to compare with: no host calls them",

	"migbuf_api":          "marks functions",
	"migbuf_printable":    "strconv.Quote",
	"migbuf_link_address": "room in a C array",
	"migbuf_version_":     "parts of HeaderVersion; VersionText is bound",
}

// All of the interface can be called from Go: every function and constant of every header, but what stands in leftOut.
func TestNothingIsLeftOut(t *testing.T) {
	include, err := exec.Command("pkg-config", "--variable=includedir", "migbuf").Output()
	if err != nil {
		t.Fatal(err)
	}
	headers, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(include)), "migbuf", "*.h"))
	if err != nil {
		t.Fatal(err)
	}
	var source []byte
	files, _ := filepath.Glob("*.go")
	for _, f := range files {
		text, _ := os.ReadFile(f)
		source = append(source, text...)
	}
	reason := func(name string) string {
		for prefix, why := range leftOut {
			if strings.HasPrefix(strings.ToLower(name), prefix) {
				return why
			}
		}
		return ""
	}
	bound, left := 0, 0
	for _, header := range headers {
		text, err := os.ReadFile(header)
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`MIGBUF_API [^;(]*?\b(migbuf_\w+)\(`).FindAllSubmatch(text, -1)
		names = append(names, regexp.MustCompile(`(?m)^#define (MIGBUF_\w+) +[^ \n]`).FindAllSubmatch(text, -1)...)
		for _, match := range names {
			name := string(match[1])
			used := regexp.MustCompile(`C\.` + name + `\b`).Match(source)
			switch why := reason(name); {
			case used:
				bound++
			case why != "":
				left++
			default:
				t.Errorf("%s of %s is not used, and no reason says why", name, filepath.Base(header))
			}
		}
	}
	if bound < 150 || left < 60 {
		t.Errorf("only %d names are bound and %d left out: are these all headers?", bound, left)
	}
}

func TestVersion(t *testing.T) {
	if Version() != HeaderVersion || !strings.HasPrefix(VersionText(), fmt.Sprintf("%d.%d.", Version()/1000000, Version()/1000%1000)) {
		t.Error(Version(), VersionText(), HeaderVersion)
	}
}

// vm is a guest with one disk, of which all is known.
func vm(virtual uint64) []Geometry {
	return []Geometry{{VirtualBytes: virtual, ClusterBytes: 65536, SubclusterBytes: 65536, BlockBytes: 4096, RequestBytes: 65536,
		QueueBytes: 4 << 20, ExtraBytes: None, Flags: GeometryAligned}}
}

func newBuffer(t *testing.T, capacity uint64) *Buffer {
	t.Helper()
	b, err := NewBuffer(capacity, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, b.Close()) })
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestErrors(t *testing.T) {
	b := newBuffer(t, 1<<20)
	disks := vm(20 * gib)
	disks[0].QueueBytes = 0 // nobody said how much a drain pours
	err := b.Add(NewMigration(1), disks)
	var e *Error
	if !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrRange) || !errors.As(err, &e) || e.Need <= e.Have || e.Have == 0 || e.Caution == 0 {
		t.Errorf("%v", err)
	}
	if !strings.Contains(err.Error(), "migbuf: buffer_add: it does not fit") || !strings.Contains(err.Error(), "need ") ||
		!strings.Contains(err.Error(), " of it because a figure is not known)") {
		t.Errorf("%v", err)
	}
	if _, err := b.View(7); !errors.Is(err, ErrNotFound) || err.Error() != "migbuf: buffer_view: "+ErrNotFound.Error() {
		t.Errorf("%v", err)
	}
	if _, _, err := LinkCard("no-such-card"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "card") {
		t.Errorf("%v", err)
	}
	null, err := os.Open("/dev/null")
	must(t, err)
	if _, err := LinkTCP(null); err == nil || !(errors.Is(err, syscall.ENOTSOCK) || errors.Is(err, ErrInvalid)) {
		t.Errorf("%v", err)
	}
	if _, err := CowFileBytes(null); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if ErrClock.Error() != "time went backwards" {
		t.Error(ErrClock)
	}
	if _, err := b.Tick(-time.Second, nil); !errors.Is(err, ErrRange) || !strings.Contains(err.Error(), "before 0") {
		t.Error(err)
	}
	null.Close()

	// Each says what is wrong, and says it once.
	_, errClosedFile := CowFileBytes(null)
	_, errNoFile := CowVolume(nil)
	_, errNoFiles := CowSizes([]*os.File{nil}, 0)
	_, errZeroByte := NewDisk("migbuf\x00vm", "n")
	_, _, errCard := LinkCard("eth\x000")
	_, errAddress := LinkConnections("10.0.0.1\x00", "")
	for _, c := range []struct {
		err  error
		says string
	}{
		{errClosedFile, "migbuf: cow_file_bytes: it is not open: use of closed file"},
		{errNoFile, "migbuf: cow_volume: it is not open: invalid argument"},
		{errNoFiles, "migbuf: cow_sizes: it is not open: invalid argument"},
		{errZeroByte, "migbuf: disk_new: there is a zero byte in a name"},
		{errCard, "migbuf: link_card: there is a zero byte in a name"},
		{errAddress, "migbuf: link_connections: there is a zero byte in an address"},
		{b.Add(NewMigration(1), []Geometry{{VirtualBytes: gib}}), "migbuf: geometry_check: ClusterBytes is 0: start from NewGeometry"},
		{NewGeometry(0).Check(), "migbuf: geometry_check: VirtualBytes is not in 1 to 2^60"},
		{&Error{Op: "x", Code: ErrSystem, Errno: syscall.EINVAL}, "migbuf: x: a system call failed: invalid argument"},
		{&Error{Op: "x", Code: ErrInvalid, Cause: os.ErrInvalid}, "migbuf: x: invalid argument"},
	} {
		if c.err == nil || c.err.Error() != c.says {
			t.Errorf("%v; not %s", c.err, c.says)
		}
	}
}

func TestClosed(t *testing.T) {
	b, err := NewBuffer(gib, nil)
	must(t, err)
	d, err := NewDisk("g", "n")
	must(t, err)
	l, err := NewBins(gib)
	must(t, err)
	for _, c := range []io.Closer{b, d, l, b, d, l} {
		must(t, c.Close())
	}
	ctx := context.Background()
	for _, handle := range []struct {
		b *Buffer
		d *Disk
		l *Bins
	}{{b, d, l}, {&Buffer{}, &Disk{}, &Bins{}}} { // closed; never made
		b, d, l := handle.b, handle.d, handle.l
		_, errTick := b.Tick(0, nil)
		_, errSave := b.Save()
		_, errBins := b.Bins()
		_, errShards := b.Shards()
		_, errResize := b.Resize(1)
		_, errPhase := b.Phase(1, PhaseBase, 1)
		_, errOutcome := b.Outcome(1, OutcomeDone)
		_, errStats := b.Stats()
		_, errTurns := b.Turns(OrderFIFO, nil)
		_, errInfo := d.Info()
		_, errText := d.Save()
		_, errHost := d.Host("n")
		_, _, errNext := d.Next()
		_, errList := l.List()
		for i, err := range []error{errTick, errSave, errBins, errShards, errResize, errPhase, errOutcome, errStats, errTurns,
			b.Add(NewMigration(1), vm(gib)), b.Remove(1), b.Sample(0, nil), b.Link(1, 1), b.Weight(1, 1), b.Resync(1, Limits{}, true),
			errInfo, errText, errHost, errNext, d.Learn(ctx, nil), d.Apply(ctx, nil, Decision{Action: ActionPause}), d.Pump(ctx, nil),
			d.Watch("m"), d.SixRates(), d.Answered(OutcomeDone), d.TellHostLimits(ctx, "n", ThrottleConfig{}),
			errList, l.Start(1, 1, 0), l.Set(1, 1), l.End(1), l.Resize(1)} {
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "not made by New") {
				t.Errorf("%d: %v", i, err)
			}
		}
		if d.QDev("n") != "" || l.Count() != 0 || d.Outcome() != OutcomeUnknown {
			t.Error("a closed one knows something")
		}
	}
}

// Numbers that have a meaning print as it.
func TestNames(t *testing.T) {
	for want, v := range map[string]fmt.Stringer{
		"paper": PolicyPaper, "literal": PolicyLiteral, "planner": PolicyPlanner, "unknown": Policy(9),
		"base": PhaseBase, "mirror": PhaseMirror, "keep": ActionKeep, "cannot fit": ActionCannotFit, "wait": ActionWait,
		"its room is not free yet": ReasonAdmission, "done": OutcomeDone, "refused": OutcomeRefused, "open": Outcome(0),
		"query": CommandQuery, "set disk": CommandSetDisk, "delete group": CommandDeleteGroup, "cont": CommandCont, "none": CommandKind(0),
		"shortest": OrderShortest, "fifo": OrderFIFO, "start": VerdictStart, "stops": FullStops, "fails": FullFails,
		"aligned|no iops_size": GeometryAligned | GeometryNoIopsSize, "no whole disk": GeometryNoWhole, "aligned|0x80": GeometryAligned | 1<<7,
		"lags|copies": CowLags | CowCopies, "own": ProspectOwn, "another": ProspectAnother,
	} {
		if fmt.Sprint(v) != want {
			t.Errorf("%T prints as %v, not %q", v, v, want)
		}
	}
	for _, v := range []fmt.Stringer{OutcomeUnknown, Policy(-1), Phase(0), Action(99), Reason(99), CommandKind(99), Order(0), Verdict(99), FullUnknown, Prospect(7)} {
		if v.String() != "unknown" {
			t.Errorf("%T prints as %v", v, v)
		}
	}
	if s := fmt.Sprintf("%+v", Decision{Action: ActionLower, Reason: ReasonShare}); !strings.Contains(s, "Action:lower") || !strings.Contains(s, "Reason:its share") {
		t.Error(s)
	}
}

// A struct with defaults may be filled as a literal. One that came from New or Default keeps its zeros.
func TestLiterals(t *testing.T) {
	room := func(m Migration) float64 {
		w, err := newBuffer(t, 100*gib).Waiting(m, vm(gib))
		must(t, err)
		return w.NeedBytes
	}
	none := NewMigration(1)
	none.DrainsAhead = 0
	if a, b, c := room(Migration{ID: 1}), room(NewMigration(1)), room(none); a != b || c >= b {
		t.Errorf("a literal needs %g bytes, one of NewMigration %g, without drains %g", a, b, c)
	}
	if a, b := room(Migration{ID: 1, DrainsAhead: 1}), room(NewMigration(1)); a >= b {
		t.Error(a, b)
	}
	must(t, newBuffer(t, 10*gib).Add(Migration{ID: 1}, vm(gib)))
	b, err := NewBuffer(gib, &BufferOptions{Policy: PolicyPaper})
	must(t, err)
	must(t, b.Close())
	if _, err := NewBuffer(gib, &BufferOptions{IntervalMs: 1}); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
	raw, _, err := State{MemoryBytes: gib}.Bound()
	same, _, _ := NewState(gib).Bound()
	if err != nil || raw != same {
		t.Error(raw, same, err)
	}
	rate, err := ThrottleRate(100e6, 40e6, 1, ThrottleConstants{})
	want, _ := ThrottleRate(100e6, 40e6, 1, DefaultThrottleConstants())
	near(t, "rate", rate, err, want)
	if _, err := PlannerTick(PlannerOptions{CapacityBytes: 1e9}, nil, nil); err != nil {
		t.Error(err)
	}
	var g, h Growth
	h = NewGrowth()
	must(t, g.Sample(65536, time.Second, 0, 0, 0, math.Inf(1), 1))
	must(t, h.Sample(65536, time.Second, 0, 0, 0, math.Inf(1), 1))
	if g != h {
		t.Errorf("%+v %+v", g, h)
	}
	f, _ := NewForecast(0)
	var z Forecast
	must(t, f.Update(1, 10, 10, math.Inf(1)))
	must(t, z.Update(1, 10, 10, math.Inf(1)))
	if f != z {
		t.Errorf("%+v %+v", f, z)
	}
	var l Link
	k, _ := NewLink(0)
	if l != k {
		t.Errorf("%+v %+v", l, k)
	}
}

// A clock that goes on between processes.
func TestClock(t *testing.T) {
	text, err := os.ReadFile("/proc/uptime")
	must(t, err)
	var before float64
	_, err = fmt.Sscan(string(text), &before)
	must(t, err)
	now, later := Clock(), Clock()
	if now.Seconds() < before-0.02 || later < now {
		t.Error(before, now, later)
	}
}

func TestBuffer(t *testing.T) {
	b := newBuffer(t, 10*gib)
	none, err := b.Tick(0, nil)
	if err != nil || len(none) != 0 {
		t.Fatal(none, err)
	}
	for id := uint64(0); id < 3; id++ {
		must(t, b.Add(NewMigration(id), vm(20*gib)))
	}
	if err := b.Add(NewMigration(1), vm(gib)); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	first, err := b.Tick(time.Second, nil)
	must(t, err)
	for i, d := range first {
		if d.ID != uint64(i) || d.Action != ActionLower || !d.Action.Acts() || d.Action.Stops() || d.Limits.IopsSize != 65536 || d.GrowthBytesPerS != d.Limits.IopsWr*65536 {
			t.Errorf("%+v", d)
		}
		if _, err := b.Outcome(d.ID, OutcomeDone); err != nil {
			t.Error(err)
		}
	}
	must(t, b.Link(0, 1e6))
	must(t, b.Sample(2*time.Second, []Sample{{ID: 0, FileBytes: gib, RemainingBytes: None}, {ID: 1}, {ID: 2, FileBytes: 2 * gib}}))
	if err := b.Sample(2*time.Second, []Sample{{ID: 0, FileBytes: 1}, {ID: 9}}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if wait, err := b.Phase(2, PhaseMirror, 2); wait || err != nil {
		t.Error(wait, err)
	}
	must(t, b.Weight(1, 300))
	second, err := b.Tick(2*time.Second, first)
	must(t, err)
	if &second[0] != &first[0] {
		t.Error("the slice was not used again")
	}
	if _, err := b.Tick(time.Second, nil); !errors.Is(err, ErrClock) {
		t.Error(err)
	}
	stats, err := b.Stats()
	if err != nil || stats.UsedBytes != 3*gib || stats.Migrations != 3 || stats.Ticks != 3 || stats.ReachBytes <= stats.UsedBytes {
		t.Errorf("%+v %v", stats, err)
	}
	view, err := b.View(2)
	if err != nil || view.Phase != PhaseMirror || view.InForceBytesPerS == Unlimited || view.Paused() {
		t.Errorf("%+v %v", view, err)
	}
	bins, err := b.Bins()
	if err != nil || len(bins) != 3 || bins[2].UsedBytes != 2*gib || bins[2].Frozen() != (bins[2].UsedBytes >= bins[2].ShareBytes) {
		t.Errorf("%+v %v", bins, err)
	}
	shards, err := b.Shards()
	if err != nil || len(shards) < 3 {
		t.Errorf("%+v %v", shards, err)
	}
	bv, err := b.BinsView(0)
	if err != nil || bv.Bytes != gib || bv.Priority < 1 {
		t.Errorf("%+v %v", bv, err)
	}

	text, err := b.Save()
	must(t, err)
	again, err := LoadBuffer(text, time.Minute)
	must(t, err)
	defer again.Close()
	must(t, again.Resync(0, second[0].Limits, true))
	decisions, err := again.Tick(time.Minute+time.Second, nil)
	if err != nil || len(decisions) != 3 {
		t.Error(decisions, err)
	}
	if _, err := LoadBuffer(text[:len(text)-5], 0); !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
	if _, err := LoadBuffer(text, -time.Second); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
	if wait, err := b.Resize(stats.ReachBytes - 1<<16); !wait || err != nil {
		t.Error("limits in force may fill more than that:", wait, err)
	}
	if wait, err := b.Resize(20 * gib); wait || err != nil {
		t.Error(wait, err)
	}
	must(t, b.Remove(0))
	if last, err := b.Tick(3*time.Second, nil); err != nil || len(last) != 2 {
		t.Error(last, err)
	}
	if _, err := b.Resize(1000); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
}

// What became of a decision. After unknown every tick asks for what is wanted, until it is known.
func TestBufferOutcome(t *testing.T) {
	o := DefaultBufferOptions()
	o.Policy = PolicyPaper
	b, err := NewBuffer(10*gib, &o)
	must(t, err)
	defer b.Close()
	must(t, b.Add(NewMigration(1), vm(20*gib)))
	first, err := b.Tick(0, nil)
	must(t, err)
	if first[0].Action != ActionLower {
		t.Fatalf("%+v", first)
	}
	if _, err := b.Outcome(1, OutcomeDone); err != nil {
		t.Error(err)
	}
	if _, err := b.Outcome(1, OutcomeRefused); !errors.Is(err, ErrState) {
		t.Error("refused, and no decision waits for its outcome:", err)
	}
	if _, err := b.Outcome(9, OutcomeDone); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := b.Outcome(1, 9); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	must(t, b.Link(0, 1e6)) // which is its share from now on: lower
	tick := func(at time.Duration) Decision {
		must(t, b.Sample(at, []Sample{{ID: 1, FileBytes: 1 << 20}}))
		d, err := b.Tick(at, nil)
		must(t, err)
		return d[0]
	}
	lower := tick(time.Second)
	if lower.Action != ActionLower || lower.Reason != ReasonShare {
		t.Fatalf("%+v", lower)
	}
	tickNow, err := b.Outcome(1, OutcomeUnknown)
	if !tickNow || err != nil {
		t.Error("the older, higher limit may be in force:", tickNow, err)
	}
	for at := time.Second; at < 4*time.Second; at += time.Second / 2 {
		if d := tick(at); d.Action != ActionLower || d.Limits != lower.Limits {
			t.Errorf("at %v: %+v", at, d)
		}
		if _, err := b.Outcome(1, OutcomeUnknown); err != nil {
			t.Error(err)
		}
	}
	_ = tick(4 * time.Second)
	if tickNow, err := b.Outcome(1, OutcomeDone); tickNow || err != nil {
		t.Error(tickNow, err)
	}
	if d := tick(5 * time.Second); d.Action != ActionKeep {
		t.Errorf("%+v", d)
	}
}

func TestOptions(t *testing.T) {
	o := DefaultBufferOptions()
	if o.IntervalMs != 1000 || o.Policy != PolicyPlanner {
		t.Errorf("%+v", o)
	}
	b, err := NewBuffer(gib, &o)
	must(t, err)
	must(t, b.Close())
	o.IntervalMs = 1
	if _, err := NewBuffer(gib, &o); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
}

func near(t *testing.T, what string, got float64, err error, want float64) {
	t.Helper()
	if err != nil || !(got == want || math.Abs(got-want) <= 1e-6*math.Abs(want)) {
		t.Errorf("%s: %.9g, %v; not %.9g", what, got, err, want)
	}
}

// The worked examples of the headers.
func TestPureRooms(t *testing.T) {
	inf := math.Inf(1)
	c := DefaultThrottleConstants()
	c.EpsilonBytes, c.EpsilonBytesPerS = 0.01, 0.01
	rate, err := ThrottleRate(100, 40, 2, c)
	near(t, "rate", rate, err, 26.375571)
	rate, err = ThrottleLiteral(100, 120, 1, 1e9, c)
	near(t, "literal", rate, err, 40464.16)
	rate, err = ThrottleHardCap(512, 16, 1, 0.1, 0)
	near(t, "hard cap", rate, err, 29.0909091)
	rate, err = ThrottlePending(20, inf, 16, 0.2, 0.1, 0)
	near(t, "pending", rate, err, 96)
	rate, err = ThrottleShave([]float64{1, 2, 3, 10}, nil, 8)
	near(t, "shave", rate, err, 2.5)
	y, err := ThrottleLenders([]float64{5, 3, 9}, [][]int{{1, 2}, {0}, nil})
	if err != nil || !reflect.DeepEqual(y, []float64{3, 3, 3}) {
		t.Error(y, err)
	}
	if _, err := ThrottleLenders([]float64{1}, [][]int{{-1}}); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
	mean, err := PriorityMean([]uint32{1, 2, 3})
	near(t, "priority", mean, err, 2)
	share, err := PlacementShares(100, []uint32{2, 1, 1}, 3)
	if err != nil || !reflect.DeepEqual(share, []uint64{50, 25, 25}) {
		t.Error(share, err)
	}
	placed, rest, err := PlacementPour([]float64{40, 70}, []float64{100, 100}, 90)
	if err != nil || !reflect.DeepEqual(placed, []float64{60, 30}) || rest != 0 {
		t.Error(placed, rest, err)
	}
	if _, err := PlacementLiteralHalving([]float64{60, 30}, 90, 20); !errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
	if n, err := PlacementLiteralReclaim([]float64{10, 80}, 50); err != nil || n != 1 {
		t.Error(n, err)
	}

	g := NewGeometry(gib)
	must(t, g.Check())
	unit, err := g.Unit()
	near(t, "unit", float64(unit), err, 65536)
	small := Geometry{VirtualBytes: gib, ClusterBytes: 65536, SubclusterBytes: 2048, BlockBytes: 4096}
	unit, err = small.Unit()
	near(t, "unit of 2 KiB on blocks of 4 KiB", float64(unit), err, 4096)
	bytes, err := g.RequestGrowth(4096)
	near(t, "request growth", float64(bytes), err, 131072)
	bytes, err = g.Metadata()
	near(t, "metadata", float64(bytes), err, 393216)
	bytes, err = g.MetadataOf(65536)
	near(t, "metadata of", float64(bytes), err, 327680)
	bytes, err = g.WholeDisk()
	near(t, "whole disk", float64(bytes), err, gib+393216+16<<20) // 16 MiB, as nobody said what else is in the file
	g.ExtraBytes = None
	bytes, err = g.WholeDisk()
	near(t, "whole disk", float64(bytes), err, gib+393216)
	tiny := Geometry{VirtualBytes: 1 << 30, ClusterBytes: 4096, SubclusterBytes: 4096, BlockBytes: 4096}
	scattered, err := tiny.MetadataScattered(1000)
	near(t, "scattered", scattered, err, 1000*(1+2.0/2047)*4096)
	factor, err := g.Amplification()
	near(t, "amplification", factor, err, 3)
	g.Flags = GeometryAligned
	bytes, err = g.Drain(32, 4096)
	near(t, "drain", float64(bytes), err, 4390912)
	big := g
	big.VirtualBytes, big.RequestBytes = 1<<40, 4096
	worst, err := big.WorstGrowth(Limits{IopsWr: 16, IopsSize: 65536}, time.Second)
	near(t, "worst growth", worst, err, 65536*17.6*(2+2.0/32767)+65536+327680)
	limits, err := LimitsFromBudget([]Geometry{g}, 1000000)
	if err != nil || limits != (Limits{IopsWr: 15, IopsSize: 65536}) {
		t.Error(limits, err)
	}
	if limits, err = LimitsFromBudget([]Geometry{g}, 65535); err != nil || limits != (Limits{}) {
		t.Error(limits, err)
	}
	host := ThrottleConfig{IopsRd: 20, BpsWr: 5000, Group: "dev"}
	if host.HostFlags() != GeometryNoIopsSize || (ThrottleConfig{}).HostFlags() != 0 {
		t.Error("host flags")
	}
	merged, err := MergeLimits([]ThrottleConfig{host}, Limits{BpsWr: 1000, IopsWr: 7})
	if err != nil || merged.BpsWr != 1000 || merged.IopsWr != 7 || merged.IopsRd != 20 || merged.Group != "" {
		t.Errorf("%+v %v", merged, err)
	}
	merged, err = MergeLimits([]ThrottleConfig{{Bps: 1000}, {BpsRd: 300, BpsWr: 900}}, Limits{IopsWr: 15})
	if want := (ThrottleConfig{BpsRd: 300, BpsWr: 500, IopsWr: 15}); err != nil || merged != want {
		t.Errorf("%+v %v", merged, err)
	}
	if _, err := MergeLimits(nil, Limits{IopsWr: 15}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if _, err := MergeLimits([]ThrottleConfig{{Group: strings.Repeat("g", 256)}}, Limits{}); !errors.Is(err, ErrTooBig) {
		t.Error(err)
	}

	growth := NewGrowth()
	must(t, growth.Sample(65536, time.Second, 0, 0, 0, inf, 1))
	must(t, growth.Sample(65536, time.Second, 655360, 160, 655360, inf, 1))
	m := math.Exp(-0.1)
	near(t, "growth", growth.Ratio, nil, (16*m+10)/(16*m+160))

	f := Forecast{Rate: 10, Peak: 20, GrownBytes: 40, RecentBytes: 64, GrowthRatio: 40.0 / 64}
	must(t, f.Update(1, 11, 7, 13))
	near(t, "forecast rate", f.Rate, nil, 10.016529)
	f = Forecast{GrowthRatio: 0.4, WrittenBytes: 1000}
	remaining, err := f.Remaining(800, inf)
	near(t, "remaining", remaining, err, 318.362)
	if _, err := NewForecast(math.NaN()); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	z, err := ForecastBend(0.5)
	near(t, "bend", z, err, 1.25643121)
	z, err = ForecastGrowth(1000, 0.5, 40, 100)
	near(t, "forecast growth", z, err, 864.664717)
	z, err = ForecastRateFor(1000, 0.5, 500, 100)
	near(t, "rate for", z, err, 13.8629436)

	state := NewState(gib)
	state.CPUs, state.DeviceRAMBytes = 4, 16<<20
	raw, gzip, err := state.Bound()
	if err != nil || raw != 1095274496 || gzip != 1095608845 {
		t.Error(raw, gzip, err)
	}
}

func TestPlanner(t *testing.T) {
	inf := math.Inf(1)
	o := DefaultPlannerOptions()
	o.CapacityBytes, o.Floor = 1000, 0
	link := []PlannerLink{{BytesPerS: 100, FlowBytesPerS: inf}}
	guests := []PlannerGuest{
		{ID: 0, Weight: 1, FileBytes: 100, LeftBytes: 4000, Remaining: inf, GrowthRatio: 1, Rate: 1, Peak: 1},
		{ID: 1, Weight: 1, FileBytes: 100, LeftBytes: 9000, Remaining: inf, GrowthRatio: 1, Rate: 20, Peak: 20},
	}
	guests[0].SetDraining(true)
	guests[0].SetDraining(false)
	plans, err := PlannerTick(o, link, guests)
	must(t, err)
	near(t, "release", plans[0].FinishS, nil, 82.0408163)
	near(t, "growth", plans[1].Growth, nil, 8.47859523)
	if plans[0].Cut() || !plans[1].Cut() || plans[0].Rate != inf {
		t.Errorf("%+v", plans)
	}
	done, err := PlannerFinish([]float64{100, 400, 900}, nil, PlannerLink{BytesPerS: 10, FlowBytesPerS: 5})
	if err != nil || !reflect.DeepEqual(done, []float64{30, 90, 190}) {
		t.Error(done, err)
	}
	lines, err := PlannerCaps(1000, []float64{200, 100, 300}, []float64{10, 50, 200}, 0, 0)
	if err != nil || !reflect.DeepEqual(lines, []float64{40, 12, 3.5}) {
		t.Error(lines, err)
	}
	growth, err := PlannerChain([]float64{30, 4, 20}, []float64{40, 12, 3.5}, nil)
	if err != nil || !reflect.DeepEqual(growth, []float64{30, 4, 3.5}) {
		t.Error(growth, err)
	}
	if _, err := PlannerChain([]float64{1}, []float64{1, 2}, nil); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	turns, err := AdmissionQueue(OrderFIFO, []PlannerLink{{BytesPerS: 1000, FlowBytesPerS: inf}},
		[]AdmissionFlow{{ID: 1, FlowBytesPerS: 900, Seconds: 10}}, []AdmissionFlow{{ID: 2, FlowBytesPerS: 900, DiskBytes: 1e6, Arrival: 1}, {ID: 3, FlowBytesPerS: 900, DiskBytes: 1e6, Arrival: 2}})
	if err != nil || turns[0].Verdict != VerdictLinkBusy || turns[1].Verdict != VerdictNotItsTurn || turns[0].Verdict.String() == "unknown" {
		t.Errorf("%+v %v", turns, err)
	}
}

func TestLinkAndSizes(t *testing.T) {
	l, err := NewLink(0)
	must(t, err)
	counted, err := l.Update(0, 1e9, false)
	if err != nil || !counted {
		t.Error(counted, err)
	}
	counted, err = l.Update(time.Minute, 5e8, false)
	near(t, "mean", l.Mean(), err, 683939721)
	if !counted || l.Now() != 5e8 {
		t.Error(counted, l.Now())
	}
	if counted, err := l.Update(time.Minute, 1e8, true); err != nil || counted {
		t.Error(counted, err)
	}
	var f LinkFlow
	if _, ok, err := f.Update(time.Second, 1e6); ok || err != nil {
		t.Error(ok, err)
	}
	rate, ok, err := f.Update(1500*time.Millisecond, 6e6)
	near(t, "flow", rate, err, 1e7)
	if !ok {
		t.Error("no rate")
	}
	f.Reset()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	must(t, err)
	defer conn.Close()
	tcp, err := LinkTCP(conn.(*net.TCPConn))
	if err != nil || tcp.UnsentBytes != 0 {
		t.Errorf("%+v %v", tcp, err)
	}
	_ = tcp.AtLeast()
	list, err := LinkConnections(conn.LocalAddr().String(), conn.RemoteAddr().String())
	if err != nil || len(list) != 1 || list[0].Local != conn.LocalAddr().String() || list[0].Cookie == 0 {
		t.Errorf("%+v %v", list, err)
	}
	if _, err := LinkConnections("nonsense", ""); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	var tf TCPFlow
	tf.Reset()
	if _, ok, _, err := tf.Update(time.Second, TCP{}); ok || err != nil {
		t.Error(ok, err)
	}
	perS, ok, atLeast, err := tf.Update(2*time.Second, TCP{AckedBytes: 1250000, BusyUs: 500000})
	near(t, "tcp flow", perS, err, 1250000)
	if !ok || !atLeast {
		t.Error(ok, atLeast)
	}
	if _, _, err := LinkCard("lo"); err != nil {
		t.Error(err)
	}

	file, err := os.Create(filepath.Join(t.TempDir(), "overlay"))
	must(t, err)
	must(t, file.Truncate(1<<20))
	_, err = file.WriteAt(make([]byte, 8192), 4096)
	must(t, err)
	must(t, file.Sync())
	bytes, err := CowFileBytes(file)
	if err != nil || bytes < 8192 || bytes >= 1<<20 {
		t.Error(bytes, err)
	}
	sizes, err := CowSizes([]*os.File{file, file}, 0)
	if err != nil || sizes[0] != bytes || sizes[1] != bytes {
		t.Error(sizes, err)
	}
	fs, err := CowFilesystem(file)
	if err != nil || fs.Magic == 0 {
		t.Errorf("%+v %v", fs, err)
	}
	if _, _, err := CowWhenFull(file); !errors.Is(err, ErrSystem) || !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
	volume, err := CowVolume(file)
	if err != nil || volume.SizeBytes < volume.FreeBytes || volume.FreeBytes == 0 {
		t.Errorf("%+v %v", volume, err)
	}
	file.Close()
	if _, err := CowFileBytes(file); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func TestBins(t *testing.T) {
	b, err := NewBins(300)
	must(t, err)
	defer b.Close()
	must(t, b.Start(0, 1, 130))
	must(t, b.Start(1, 1, 40))
	must(t, b.Start(2, 1, 0))
	shards, err := b.Shards()
	if err != nil || len(shards) != 4 || shards[3] != (Shard{Bin: 2, ID: 0, Bytes: 30, Position: 2}) {
		t.Errorf("%+v %v", shards, err)
	}
	must(t, b.Set(1, 60))
	view, err := b.View(0)
	if err != nil || view.Shards != 2 || b.Count() != 3 || b.Used() != 190 || b.Excess() != 0 {
		t.Errorf("%+v %v", view, err)
	}
	must(t, b.End(1))
	if err := b.Resize(10); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	list, err := b.List()
	if err != nil || len(list) != 2 {
		t.Error(list, err)
	}
}

// The worked examples of the header, and those where a name is just not hashed and just is.
// The same texts as those of the library's own test.
func TestLXDProcessed(t *testing.T) {
	for _, k := range []struct {
		text  string
		code  Code
		bytes uint64
	}{
		{"1234", 0, 1234},
		{"0", 0, 0},
		{"1.2GB (110MB/s)", 0, 1200000000},
		{"110.5MiB", 0, 115867648},
		{"vm1: 1.20GB (110.00MB/s)", 0, 1200000000},
		{"vm1: 7B", 0, 7},
		{"a: b (c): 1.00kB (0B/s)", 0, 1000},
		{"vm1: 45% (110.00MB/s)", ErrProtocol, 0},
		{"vm1: 110.00MB/s", ErrProtocol, 0},
		{"Live migration: 3.00MB remaining (110.00MB/s)", ErrProtocol, 0},
		{"3.00MB remaining", ErrProtocol, 0},
		{"3.00MB ", ErrProtocol, 0},
		{"vm1: ", ErrProtocol, 0},
		{"vm1:7B", ErrProtocol, 0},
		{"1.1kB", 0, 1100},
		{"1.1KB", 0, 1100},
		{"7B", 0, 7},
		{"4611686018427387904", 0, 1 << 62},
		{"", ErrProtocol, 0},
		{".", ErrProtocol, 0},
		{"GB", ErrProtocol, 0},
		{"-1", ErrProtocol, 0},
		{"1.2.3", ErrProtocol, 0},
		{"1Gi", ErrProtocol, 0},
		{"1XB", ErrProtocol, 0},
		{"5EB", ErrRange, 0},
		{"1e9", ErrProtocol, 0},
		{": 7", 0, 7},
		{strings.Repeat("9", 400), ErrRange, 0},
	} {
		bytes, err := LXDProcessed(k.text)
		if bytes != k.bytes || (k.code == 0) != (err == nil) || (err != nil && !errors.Is(err, k.code)) {
			t.Errorf("%q: %d, %v", k.text, bytes, err)
		}
	}
}

func TestDeviceNames(t *testing.T) {
	for _, k := range []struct{ device, lxd, incus string }{
		{"root", "lxd_root", "incus_root"},
		{"root-disk", "lxd_root--disk", "incus_root--disk"},
		{"a/b", "lxd_a-b", "incus_a-b"},
		{"/", "lxd_-", "incus_-"},
		{"-/-", "lxd_-----", "incus_-----"},
		{strings.Repeat("b", 25), "lxd_" + strings.Repeat("b", 25), "incus_" + strings.Repeat("b", 25)},
		{strings.Repeat("b", 26), "lxd_" + strings.Repeat("b", 26), "incus_ycphZN15I09t0YB1IFx2O7WTD"},
		{strings.Repeat("b", 27), "lxd_" + strings.Repeat("b", 27), "incus_bKJkoAwLS9EO3iy4t-h59GNLo"},
		{strings.Repeat("b", 28), "lxd_3D6kcL4uSJcf4GC2o1DJMUUwKtV", "incus_3D6kcL4uSJcf4GC2o1DJMUUwK"},
		{"system-disk-of-the-mail-host", "lxd_fV-B812K5Nhy2sSel0qpoxdoY6Y", "incus_fV-B812K5Nhy2sSel0qpoxdoY"},
	} {
		l, i := LXDNames(k.device), IncusNames(k.device)
		if l.Node != k.lxd || i.Node != k.incus || i.Overlay != k.incus+"_snap" || i.Target != k.incus+"_nbd" {
			t.Errorf("%s: %+v %+v", k.device, l, i)
		}
	}
	root, other := LXDNames("root"), LXDNames("my-data")
	if root.Overlay != "lxd_root_snapshot" || root.Target != "lxd_root_nbd" || other.Overlay != "" || other.Target != "" {
		t.Errorf("%+v %+v", root, other)
	}
	if other.QDev("") != "dev-lxd_my--data" || other.QDev("virtio-blk") != "/machine/peripheral/dev-lxd_my--data/virtio-backend" {
		t.Errorf("%s %s", other.QDev(""), other.QDev("virtio-blk"))
	}
}

// The worked example of the header, and write-through for a guest that cannot fit.
func TestAdmission(t *testing.T) {
	b := newBuffer(t, 10<<30)
	if err := b.Add(NewMigration(1), vm(10e9)); err != nil {
		t.Fatal(err)
	}
	if err := b.Link(0, 100e6); err != nil {
		t.Fatal(err)
	}
	var queue []Waiting
	for id, disk := range map[uint64]uint64{2: 5e9, 3: 2e9} {
		w, err := b.Waiting(NewMigration(id), vm(disk))
		if err != nil {
			t.Fatal(err)
		}
		queue = append(queue, w)
	}
	turns, err := b.Turns(OrderShortest, queue)
	if err != nil {
		t.Fatal(err)
	}
	for _, turn := range turns {
		want, earliest := VerdictLinkBusy, 100.0
		if turn.ID == 2 {
			want, earliest = VerdictNotItsTurn, 120
		}
		if turn.Verdict != want || math.Abs(turn.EarliestS-earliest) > 1e-6 {
			t.Errorf("%d: %v, earliest in %g s", turn.ID, turn.Verdict, turn.EarliestS)
		}
	}
	if o, err := b.Outlook(1); err != nil || math.Abs(o.FinishS-100) > 1e-6 || o.Mirror() {
		t.Error(o, err)
	}
	hog := NewMigration(4)
	hog.RateBytesPerS = 30e6
	w, err := b.Waiting(hog, vm(200e9))
	if err != nil {
		t.Fatal(err)
	}
	if o, err := b.OutlookMirrored(w, 120, OutlookMirror{Background: 1}); err != nil || o.Delivered > 0.5 || !o.Mirror() {
		t.Error(o, err)
	}
	if _, err := b.Outlook(9); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}
