// SPDX-License-Identifier: MIT

package migbuf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
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

func vm(virtual uint64) []Geometry {
	return []Geometry{{VirtualBytes: virtual, ClusterBytes: 65536, SubclusterBytes: 65536, RequestBytes: 65536, Flags: Aligned}}
}

func newBuffer(t *testing.T, capacity uint64) *Buffer {
	t.Helper()
	b, err := NewBuffer(capacity, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
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
	disks[0].QueueBytes = gib
	err := b.Add(NewMigration(1), disks)
	var e *Error
	if !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrRange) || !errors.As(err, &e) || e.Need <= e.Have || e.Have == 0 {
		t.Errorf("%v", err)
	}
	if !strings.Contains(err.Error(), "migbuf: buffer_add: its files") || !strings.Contains(err.Error(), "need ") {
		t.Errorf("%v", err)
	}
	if _, err := b.View(7); !errors.Is(err, ErrNotFound) || err.Error() != "migbuf: buffer_view: "+ErrNotFound.Error() {
		t.Errorf("%v", err)
	}
	if _, _, err := LinkCard("no-such-card"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	null, err := os.Open("/dev/null")
	must(t, err)
	defer null.Close()
	if _, err := LinkTCP(null); err == nil || !(errors.Is(err, syscall.ENOTSOCK) || errors.Is(err, ErrInvalid)) {
		t.Errorf("%v", err)
	}
	if ErrClock.Error() != "time went backwards" {
		t.Error(ErrClock)
	}
}

func TestClosed(t *testing.T) {
	b, err := NewBuffer(gib, nil)
	must(t, err)
	b.Close()
	b.Close()
	_, errTick := b.Tick(0, nil)
	_, errSave := b.Save()
	_, errBins := b.Bins()
	d, err := NewDisk("g", "n")
	must(t, err)
	d.Close()
	d.Close()
	l, err := NewBins(gib)
	must(t, err)
	l.Close()
	for i, err := range []error{b.Add(NewMigration(1), vm(gib)), errTick, errSave, errBins, b.Resize(1), b.Remove(1),
		d.Learn(context.Background(), nil), d.Watch("m"), l.Start(1, 1, 0)} {
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if d.QDev("n") != "" {
		t.Error("a closed disk has a device")
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
		if d.ID != uint64(i) || d.Action != Lower || d.Limits.IopsSize != 65536 || d.GrowthBytesPerS != d.Limits.IopsWr*65536 {
			t.Errorf("%+v", d)
		}
	}
	must(t, b.Link(0, 100e6))
	must(t, b.Sample([]Sample{{ID: 0, FileBytes: gib}, {ID: 2, FileBytes: 2 * gib}}))
	if err := b.Sample([]Sample{{ID: 0, FileBytes: 1}, {ID: 9}}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	must(t, b.Phase(2, PhaseDrain, 2))
	must(t, b.Weight(1, 300))
	second, err := b.Tick(2*time.Second, first)
	must(t, err)
	if &second[0] != &first[0] {
		t.Error("the slice was not used again")
	}
	if second[0].Action != Lower || second[0].Reason != ReasonShare || second[0].Action.String() != "lower" {
		t.Errorf("%+v: %s", second[0], second[0].Reason)
	}
	if _, err := b.Tick(time.Second, nil); !errors.Is(err, ErrClock) {
		t.Error(err)
	}
	stats, err := b.Stats()
	if err != nil || stats.UsedBytes != 3*gib || stats.Migrations != 3 || stats.Ticks != 3 {
		t.Errorf("%+v %v", stats, err)
	}
	view, err := b.View(2)
	if err != nil || view.Phase != PhaseDrain || view.InForceBytesPerS == Unlimited || view.Paused() {
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
	must(t, again.Found(0, second[0].Limits, true))
	decisions, err := again.Tick(time.Minute+time.Second, nil)
	if err != nil || len(decisions) != 3 {
		t.Error(decisions, err)
	}
	if _, err := LoadBuffer(text[:len(text)-5], 0); !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
	must(t, b.Refused(0))
	must(t, b.Remove(0))
	if last, err := b.Tick(3*time.Second, nil); err != nil || len(last) != 2 {
		t.Error(last, err)
	}
	if err := b.Resize(1000); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	must(t, b.Resize(20*gib))
}

func TestOptions(t *testing.T) {
	o := DefaultBufferOptions()
	if o.IntervalMs != 1000 || o.Policy != PolicyPaper {
		t.Errorf("%+v", o)
	}
	o.Policy = PolicyPlanner
	b, err := NewBuffer(gib, &o)
	must(t, err)
	b.Close()
	o.IntervalMs = 1
	if _, err := NewBuffer(gib, &o); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
}

// Several goroutines may use one buffer and one disk. Run with -race.
func TestConcurrentUse(t *testing.T) {
	b := newBuffer(t, 10*gib)
	d, err := NewDisk("g", "n0")
	must(t, err)
	defer d.Close()
	q := &fakeQEMU{node: "n0", qdev: "dev-n0"}
	var wait sync.WaitGroup
	for g := 0; g < 8; g++ {
		wait.Add(1)
		go func(id uint64) {
			defer wait.Done()
			for i := 0; i < 50; i++ {
				_ = b.Add(NewMigration(id), vm(gib))
				_ = b.Sample([]Sample{{ID: id, FileBytes: uint64(i) << 16}})
				_, _ = b.Tick(time.Hour, nil)
				_, _ = b.Stats()
				_ = d.Learn(context.Background(), q)
				_ = d.Set(context.Background(), q, Limits{IopsWr: 10 + id, IopsSize: 65536})
				_ = b.Remove(id)
			}
		}(uint64(g))
	}
	wait.Wait()
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
	y, err := ThrottleHosts([]float64{5, 3, 9}, [][]int{{1, 2}, {0}, nil})
	if err != nil || !reflect.DeepEqual(y, []float64{3, 3, 3}) {
		t.Error(y, err)
	}
	if _, err := ThrottleHosts([]float64{1}, [][]int{{-1}}); !errors.Is(err, ErrRange) {
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

	g := Geometry{VirtualBytes: gib, ClusterBytes: 65536, SubclusterBytes: 65536}
	must(t, g.Check())
	bytes, err := g.RequestGrowth(4096)
	near(t, "request growth", float64(bytes), err, 131072)
	bytes, err = g.Metadata()
	near(t, "metadata", float64(bytes), err, 393216)
	bytes, err = g.MetadataOf(65536)
	near(t, "metadata of", float64(bytes), err, 327680)
	bytes, err = g.WholeDisk()
	near(t, "whole disk", float64(bytes), err, gib+393216)
	factor, err := g.Amplification()
	near(t, "amplification", factor, err, 3)
	g.Flags = Aligned
	bytes, err = g.Drain(32, 4096)
	near(t, "drain", float64(bytes), err, 4194304)
	big := g
	big.VirtualBytes, big.RequestBytes = 1<<40, 4096
	worst, err := big.WorstGrowth(Limits{IopsWr: 16, IopsSize: 65536}, time.Second)
	near(t, "worst growth", worst, err, 2*65536*16*1.1+65536+327680)
	limits, err := LimitsFromBudget([]Geometry{g}, 1000000)
	if err != nil || limits != (Limits{IopsWr: 15, IopsSize: 65536}) {
		t.Error(limits, err)
	}
	if limits, err = LimitsFromBudget([]Geometry{g}, 65535); err != nil || limits != (Limits{}) {
		t.Error(limits, err)
	}
	host := ThrottleConfig{IopsRd: 20, BpsWr: 5000, Group: "dev"}
	if host.HostFlags() != NoIopsSize || (ThrottleConfig{}).HostFlags() != 0 {
		t.Error("host flags")
	}
	merged, err := host.Merge(Limits{BpsWr: 1000, IopsWr: 7})
	if err != nil || merged.BpsWr != 1000 || merged.IopsWr != 7 || merged.IopsRd != 20 || merged.Group != "" {
		t.Errorf("%+v %v", merged, err)
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
	near(t, "release", plans[0].ReleaseS, nil, 82.0408163)
	near(t, "growth", plans[1].Growth, nil, 8.47859523)
	if plans[0].Cut() || !plans[1].Cut() || plans[0].Rate != inf {
		t.Errorf("%+v", plans)
	}
	done, err := PlannerFinish([]float64{100, 400, 900}, nil, PlannerLink{BytesPerS: 10, FlowBytesPerS: 5})
	if err != nil || !reflect.DeepEqual(done, []float64{30, 90, 190}) {
		t.Error(done, err)
	}
	lines, err := PlannerLines(1000, []float64{200, 100, 300}, []float64{10, 50, 200}, 0, 0)
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
	value, err := PlannerSetValue(20, 0.1, 0.1)
	near(t, "set value", value, err, 10)
	turns, err := PlannerAdmit(FIFO, []PlannerLink{{BytesPerS: 1000, FlowBytesPerS: inf}},
		[]PlannerFlow{{ID: 1, FlowBytesPerS: 900, Seconds: 10}}, []PlannerFlow{{ID: 2, FlowBytesPerS: 900, DiskBytes: 1e6, Arrival: 1}, {ID: 3, FlowBytesPerS: 900, DiskBytes: 1e6, Arrival: 2}})
	if err != nil || turns[0].Verdict != LinkBusy || turns[1].Verdict != NotItsTurn || turns[0].Verdict.String() == "unknown" {
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
	processed, err := LinkProcessed("vm1: 1.2GB (110MB/s)")
	near(t, "processed", float64(processed), err, 1.2e9)
	if _, err := LinkProcessed("vm1: 45% (110MB/s)"); !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}

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

// fakeQEMU knows the commands of a throttle, and what is in force.
type fakeQEMU struct {
	mu         sync.Mutex
	node, qdev string
	inForce    ThrottleConfig
	group      map[string]any // of the throttle-group object, nil: none
	noGroups   bool           // object-add is refused
	said       []string
	asked      chan struct{} // told by Run, if not nil, before it waits for block
	block      chan struct{} // Run waits for it, if not nil
}

func (q *fakeQEMU) Run(command string, args any, resp any) error {
	if q.asked != nil {
		q.asked <- struct{}{}
	}
	if q.block != nil {
		<-q.block
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.said = append(q.said, command)
	text, err := json.Marshal(args)
	if err != nil {
		return err
	}
	switch command {
	case "query-block":
		reply := fmt.Sprintf(`{"return": [{"device": "cd", "qdev": "ide0"}, {"qdev": %q, "inserted": {"node-name": %q, "ro": false, %s}}]}`,
			q.qdev, q.node, strings.Trim(string(mustJSON(q.inForce)), "{}"))
		return json.Unmarshal([]byte(reply), resp)
	case "object-add":
		if q.noGroups {
			return errors.New("GenericError: invalid object type: throttle-group")
		}
		return json.Unmarshal(text, &q.group)
	case "object-del":
		q.group = nil
		return nil
	case "block_set_io_throttle":
		q.inForce = ThrottleConfig{}
		return json.Unmarshal(text, &q.inForce)
	case "qom-set":
		if q.group == nil {
			return errors.New("DeviceNotFound: no such object")
		}
		return nil
	case "stop", "cont":
		return nil
	}
	return errors.New("CommandNotFound: " + command)
}

func mustJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

func TestDisk(t *testing.T) {
	ctx := context.Background()
	host := ThrottleConfig{BpsRd: 5, IopsWr: 400, IopsWrMax: 900, IopsWrMaxLength: 2, Group: "dev-n0"}
	for _, noGroups := range []bool{false, true} {
		q := &fakeQEMU{node: "n0", qdev: "dev-n0", inForce: host, noGroups: noGroups}
		d, err := NewDisk("migbuf-vm1", "n0")
		must(t, err)
		if err := d.Set(ctx, q, Limits{IopsWr: 10, IopsSize: 65536}); !errors.Is(err, ErrState) {
			t.Error("set before learning:", err)
		}
		must(t, d.Learn(ctx, q))
		if got, err := d.Host("n0"); err != nil || got != host || d.QDev("n0") != "dev-n0" || d.QDev("n1") != "" {
			t.Errorf("%+v %v", got, err)
		}
		must(t, d.Set(ctx, q, Limits{IopsWr: 10, IopsSize: 65536}))
		if q.inForce.IopsWr != 10 || q.inForce.IopsSize != 65536 || q.inForce.IopsWrMax != 0 || q.inForce.BpsRd != 5 {
			t.Errorf("%+v", q.inForce)
		}
		must(t, d.Set(ctx, q, Limits{IopsWr: 8, IopsSize: 65536})) // lower: on the group, where there is one
		if lowered := q.inForce.IopsWr == 8; lowered != noGroups {
			t.Errorf("%+v %q", q.inForce, q.said)
		}
		must(t, d.Set(ctx, q, Limits{IopsWr: 10, IopsSize: 65536}))
		info, err := d.Info()
		if err != nil || !info.Throttled || info.Plain != noGroups || info.Limits.IopsWr != 10 {
			t.Errorf("%+v %v %q", info, err, q.said)
		}
		before := len(q.said)
		must(t, d.Set(ctx, q, Limits{IopsWr: 10, IopsSize: 65536}))
		if len(q.said) != before {
			t.Error("a limit in force was sent again:", q.said[before:])
		}
		text, err := d.Save()
		must(t, err)
		d.Close()

		d, err = LoadDisk(text) // a host that was restarted
		must(t, err)
		must(t, d.Pump(ctx, q))
		must(t, d.Apply(ctx, q, Decision{Action: Keep}))
		must(t, d.Apply(ctx, q, Decision{Action: Pause}))
		must(t, d.Apply(ctx, q, Decision{Action: Lower, Limits: Limits{IopsWr: 9, IopsSize: 65536}}))
		sent := len(q.said)
		must(t, d.Apply(ctx, q, Decision{Action: Again}))
		if len(q.said) == sent {
			t.Error("Again sent nothing")
		}
		must(t, d.Apply(ctx, q, Decision{Action: Resume, Limits: Limits{IopsWr: 20, IopsSize: 65536}}))
		if last := q.said[len(q.said)-1]; last != "cont" {
			t.Error(q.said)
		}
		must(t, d.Restore(ctx, q))
		if q.group != nil || (!noGroups && q.inForce != host) {
			t.Errorf("%+v %v", q.inForce, q.group)
		}
		d.Close()
	}
}

func TestDiskRefused(t *testing.T) {
	d, err := NewDisk("g", "n0")
	must(t, err)
	defer d.Close()
	err = d.Learn(context.Background(), &fakeQEMU{node: "other", qdev: "dev"})
	if !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	lost := errors.New("monitor disconnected")
	err = d.Learn(context.Background(), runFunc(func() error { return lost }))
	if !errors.Is(err, ErrPeer) || !errors.Is(err, lost) {
		t.Error(err)
	}
	err = d.Apply(context.Background(), runFunc(func() error { return lost }), Decision{Action: Pause})
	if !errors.Is(err, ErrPeer) || !errors.Is(err, lost) {
		t.Error(err)
	}
	long := &fakeQEMU{node: "n0", qdev: "dev", inForce: ThrottleConfig{Group: strings.Repeat("g", 300)}}
	if err := d.Learn(context.Background(), long); !errors.Is(err, ErrTooBig) {
		t.Error(err)
	}
}

type runFunc func() error

func (f runFunc) Run(string, any, any) error { return f() }

// deadline is a context whose time is over when it is told so: no clock decides what comes first.
type deadline struct {
	context.Context
	over chan struct{}
}

func newDeadline() deadline { return deadline{context.Background(), make(chan struct{})} }

func (d deadline) Done() <-chan struct{} { return d.over }

func (d deadline) Err() error {
	select {
	case <-d.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A context ends the waiting, not the command: its answer is taken by the next call.
func TestContext(t *testing.T) {
	q := &fakeQEMU{node: "n0", qdev: "dev-n0", asked: make(chan struct{}, 9), block: make(chan struct{})}
	d, err := NewDisk("g", "n0")
	must(t, err)
	defer d.Close()
	ctx := newDeadline()
	go func() { <-q.asked; close(ctx.over) }()
	err = d.Learn(ctx, q)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
	if err := d.Pump(ctx, q); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	close(q.block)
	must(t, d.Pump(context.Background(), q))
	if len(q.said) != 1 {
		t.Error("the command was sent again:", q.said)
	}
	if info, err := d.Info(); err != nil || !info.Learnt {
		t.Errorf("%+v %v", info, err)
	}
	done, end := context.WithCancel(context.Background())
	end()
	if err := d.Set(done, q, Limits{IopsWr: 1, IopsSize: 65536}); !errors.Is(err, context.Canceled) || len(q.said) != 1 {
		t.Error(err, q.said)
	}
}

// Stop and cont too; and nothing is sent before the one before it was answered.
func TestContextOfApply(t *testing.T) {
	q := &fakeQEMU{node: "n0", qdev: "dev-n0"}
	d, err := NewDisk("g", "n0")
	must(t, err)
	defer d.Close()
	limits := Limits{IopsWr: 5, IopsSize: 65536}
	must(t, d.Learn(context.Background(), q))
	must(t, d.Set(context.Background(), q, limits))
	asked, answer := make(chan string, 9), make(chan error)
	slow := slowMonitor{asked, answer}
	ctx := newDeadline()
	go func() {
		for len(asked) == 0 {
			time.Sleep(time.Millisecond)
		}
		close(ctx.over)
	}()
	if err := d.Apply(ctx, slow, Decision{Action: Pause}); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
	next := make(chan error)
	go func() { next <- d.Apply(context.Background(), slow, Decision{Action: Resume, Limits: limits}) }()
	if command := <-asked; command != "stop" {
		t.Fatal(command)
	}
	select {
	case command := <-asked:
		t.Error(command, "overtakes stop")
	case <-time.After(50 * time.Millisecond):
	}
	answer <- nil
	if command := <-asked; command != "cont" {
		t.Error(command)
	}
	answer <- nil
	must(t, <-next)
	if err := d.Apply(context.Background(), nil, Decision{Action: Pause}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	d.Close()
	if err := d.Apply(context.Background(), q, Decision{Action: Pause}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

type slowMonitor struct {
	asked  chan<- string
	answer <-chan error
}

func (m slowMonitor) Run(command string, _, _ any) error {
	m.asked <- command
	return <-m.answer
}

// The machine by hand, for a host that sends commands in a way of its own.
func TestMachine(t *testing.T) {
	d, err := NewDisk("g")
	must(t, err)
	defer d.Close()
	must(t, d.Watch("n0"))
	if _, more, err := d.Next(); more || err != nil {
		t.Error(more, err)
	}
	if err := d.Done(); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	q := &fakeQEMU{node: "n0", qdev: "dev"}
	must(t, d.Learn(context.Background(), q))
	must(t, d.Set(context.Background(), nil, Limits{IopsWr: 10, IopsSize: 65536}))
	c, more, err := d.Next()
	if err != nil || !more || c.Kind != AddGroup || c.Name != "object-add" || !json.Valid(c.Arguments) {
		t.Errorf("%+v %v %v", c, more, err)
	}
	must(t, d.Failed())
	c, more, err = d.Next()
	if err != nil || !more || c.Kind != SetDisk {
		t.Errorf("%+v %v %v", c, more, err)
	}
	if _, err := d.Found("n0", "dev", ThrottleConfig{}); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	must(t, d.Done())
}

// The worked examples of migbuf_lxd_names, and those where a name is just not hashed and just is.
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

// lxdMonitor has LXD's signatures.
type lxdMonitor struct{ said []string }

func (m *lxdMonitor) SetBlockThrottle(id string, bytesRead int, bytesWrite int, iopsRead int, iopsWrite int) error {
	m.said = append(m.said, fmt.Sprint(id, " ", bytesRead, bytesWrite, iopsRead, iopsWrite))
	return nil
}
func (m *lxdMonitor) Pause() error { m.said = append(m.said, "pause"); return nil }
func (m *lxdMonitor) Start() error { m.said = append(m.said, "start"); return nil }

func TestLXD(t *testing.T) {
	ctx := context.Background()
	m := &lxdMonitor{}
	root := LXDNames("root")
	adapter := FromLXD(m, root.Disk("", ThrottleConfig{IopsRd: 700}))
	d, err := NewDisk("migbuf-vm1", root.Node)
	must(t, err)
	defer d.Close()
	must(t, d.Typed())
	must(t, d.Learn(ctx, adapter))
	geometry := vm(gib)
	geometry[0].Flags |= NoIopsSize
	limits, err := LimitsFromBudget(geometry, 10<<20)
	must(t, err)
	must(t, d.Apply(ctx, adapter, Decision{Action: Lower, Limits: limits}))
	must(t, d.Apply(ctx, adapter, Decision{Action: Pause}))
	must(t, d.Learn(ctx, adapter))
	must(t, d.Apply(ctx, adapter, Decision{Action: Resume, Limits: Limits{IopsWr: 200, BpsWr: 2000}}))
	must(t, d.Restore(ctx, adapter))
	want := []string{"dev-lxd_root 0 5242880 700 80", "pause", "dev-lxd_root 0 2000 700 200", "start", "dev-lxd_root 0 0 700 0"}
	if !reflect.DeepEqual(m.said, want) {
		t.Errorf("%q", m.said)
	}
	if err := adapter.Run("block_set_io_throttle", map[string]any{"id": "x", "iops_size": 1}, nil); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if err := adapter.Run("blockdev-add", nil, nil); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}

// The example of admission.h, and write-through for a guest that cannot fit.
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
	turns, err := b.Turns(ShortestFirst, queue)
	if err != nil {
		t.Fatal(err)
	}
	for _, turn := range turns {
		want, earliest := LinkBusy, 100.0
		if turn.ID == 2 {
			want, earliest = NotItsTurn, 120
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
	if o, err := b.OutlookWaiting(w, 120); err != nil || o.Delivered > 0.5 || !o.Mirror() {
		t.Error(o, err)
	}
	if _, err := b.Outlook(9); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}
