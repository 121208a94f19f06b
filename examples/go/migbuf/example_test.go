// SPDX-License-Identifier: MIT

package migbuf_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"migbuf.example/migbuf"
)

// One migration, from admission to its first limit.
func Example() {
	buffer, err := migbuf.NewBuffer(10<<30, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer buffer.Close()
	disk := migbuf.NewGeometry(20 << 30) // of which nothing is known but its size
	if err := buffer.Add(migbuf.NewMigration(1), []migbuf.Geometry{disk}); err != nil {
		fmt.Println("not now:", err)
		return
	}
	decisions, err := buffer.Tick(migbuf.Clock(), nil)
	for _, d := range decisions {
		fmt.Println(d.Action, "to units of", d.Limits.IopsSize, "bytes:", d.Reason)
	}
	fmt.Println(err)
	// Output:
	// lower to units of 65536 bytes: little is known of it yet
	// <nil>
}

// No room is not a failure: ask again when another migration has ended. What is not known of a guest costs room.
func ExampleBuffer_Add() {
	buffer, _ := migbuf.NewBuffer(1<<30, nil)
	defer buffer.Close()
	disk := migbuf.NewGeometry(20 << 30)
	err := buffer.Add(migbuf.NewMigration(1), []migbuf.Geometry{disk})
	var detail *migbuf.Error
	if errors.Is(err, migbuf.ErrNoSpace) && errors.As(err, &detail) {
		fmt.Println("wait:", detail.Have, "bytes are free; most of what it needs is caution:", detail.Caution > detail.Need/2)
	}
	disk.RequestBytes = 32 * 65536 // virtio-blk merges what is in flight: 32 writes of 64 KiB
	disk.QueueBytes, _ = disk.Drain(32, 65536)
	disk.ExtraBytes = migbuf.None
	fmt.Println(buffer.Add(migbuf.NewMigration(1), []migbuf.Geometry{disk}))
	// Output:
	// wait: 1073741824 bytes are free; most of what it needs is caution: true
	// <nil>
}

// The loop of a host: samples in, decisions out, each in one call for all migrations.
func ExampleBuffer_Tick() {
	buffer, _ := migbuf.NewBuffer(10<<30, nil)
	defer buffer.Close()
	disk := migbuf.NewGeometry(20 << 30)
	disk.QueueBytes, _ = disk.Drain(32, 65536)
	_ = buffer.Add(migbuf.NewMigration(1), []migbuf.Geometry{disk})
	_ = buffer.Add(migbuf.NewMigration(2), []migbuf.Geometry{disk})
	var decisions []migbuf.Decision
	for second := time.Duration(0); second < 3*time.Second; second += time.Second {
		samples := []migbuf.Sample{ // from CowFileBytes and query-blockstats
			{ID: 1, FileBytes: uint64(second.Seconds()) << 20},
			{ID: 2, FileBytes: uint64(second.Seconds()) << 30},
		}
		_ = buffer.Sample(second, samples)
		_ = buffer.Link(0, 125000000)
		decisions, _ = buffer.Tick(second, decisions)
		for _, d := range decisions {
			if d.Action.Acts() {
				_, _ = buffer.Outcome(d.ID, migbuf.OutcomeDone) // of Disk.Apply: here it always works
			}
			if second == 0 {
				fmt.Println(d.ID, d.Action, "to a limit:", d.Reason)
			}
		}
	}
	stats, _ := buffer.Stats()
	fmt.Println(stats.Ticks, "ticks,", stats.UsedBytes>>20, "MiB")
	// Output:
	// 1 lower to a limit: little is known of it yet
	// 2 lower to a limit: little is known of it yet
	// 3 ticks, 2050 MiB
}

// monitor stands for the host's own: it prints what it is asked to run, shortened, and remembers what is in force.
type monitor struct{ inForce migbuf.ThrottleConfig }

func newMonitor() *monitor { return &monitor{migbuf.ThrottleConfig{IopsWr: 500}} }

func (m *monitor) Run(_ context.Context, command string, args any, resp any) error {
	var limits migbuf.ThrottleConfig
	text, _ := json.Marshal(args)
	_ = json.Unmarshal(text, &limits)
	fmt.Printf("%s iops_wr=%d group=%q\n", command, limits.IopsWr, limits.Group)
	switch command {
	case "block_set_io_throttle":
		m.inForce = limits
	case "query-block":
		text, _ := json.Marshal(m.inForce)
		return json.Unmarshal([]byte(`{"return": [{"qdev": "dev-lxd_root", "inserted": {"node-name": "lxd_root", `+string(text[1:])+`}]}`), resp)
	}
	return nil
}

// The whole life of a throttle, through a host's monitor.
func ExampleDisk() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	disk, err := migbuf.NewDisk("migbuf-vm1", "lxd_root")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer disk.Close()
	disk.SaveWith(func(_ context.Context, text string) error { // where a restarted host finds it
		fmt.Println("saved:", strings.Fields(text)[0])
		return nil
	})
	m := newMonitor()
	fmt.Println(disk.Learn(ctx, m))
	fmt.Println(disk.Set(ctx, m, migbuf.Limits{IopsWr: 16, IopsSize: 65536}))
	fmt.Println(disk.Restore(ctx, m))
	// Output:
	// query-block iops_wr=0 group=""
	// saved: migbuf-disk
	// <nil>
	// saved: migbuf-disk
	// object-add iops_wr=0 group=""
	// block_set_io_throttle iops_wr=16 group="migbuf-vm1"
	// <nil>
	// query-block iops_wr=0 group=""
	// block_set_io_throttle iops_wr=500 group=""
	// object-del iops_wr=0 group=""
	// <nil>
}

// hanging stands for a monitor whose QEMU hangs: its answer comes when nobody waits for it any more.
type hanging struct{}

func (hanging) Run(ctx context.Context, _ string, _ any, _ any) error {
	<-ctx.Done()
	return ctx.Err()
}

// Three outcomes: after an unknown one the same decision comes again, and QEMU is asked what is in force first.
func ExampleDisk_Apply() {
	ctx := context.Background()
	buffer, _ := migbuf.NewBuffer(10<<30, nil)
	defer buffer.Close()
	disk, _ := migbuf.NewDisk("migbuf-vm1", "lxd_root")
	defer disk.Close()
	m := newMonitor()
	fmt.Println(disk.Learn(ctx, m))
	_ = buffer.Add(migbuf.NewMigration(1), []migbuf.Geometry{migbuf.NewGeometry(20 << 30)})
	for _, monitor := range []migbuf.Monitor{hanging{}, m} {
		decisions, _ := buffer.Tick(migbuf.Clock(), nil)
		soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond) // less than LagMs
		err := disk.Apply(soon, monitor, decisions[0])
		cancel()
		tickNow, _ := buffer.Outcome(1, migbuf.OutcomeOf(err))
		fmt.Println(decisions[0].Action, migbuf.OutcomeOf(err), tickNow, errors.Is(err, context.DeadlineExceeded))
	}
	// Output:
	// query-block iops_wr=0 group=""
	// <nil>
	// lower unknown false true
	// query-block iops_wr=0 group=""
	// object-add iops_wr=0 group=""
	// block_set_io_throttle iops_wr=500 group="migbuf-vm1"
	// lower done false false
}

func ExampleLimitsFromBudget() {
	disk := migbuf.NewGeometry(1 << 30)
	limits, _ := migbuf.LimitsFromBudget([]migbuf.Geometry{disk}, 1000000)
	fmt.Println(limits.IopsWr, limits.IopsSize)
	limits, _ = migbuf.LimitsFromBudget([]migbuf.Geometry{disk}, 65535)
	fmt.Println(limits == migbuf.Limits{}) // below one unit a second: pause
	// Output:
	// 15 65536
	// true
}

func ExampleThrottleRate() {
	c := migbuf.DefaultThrottleConstants()
	c.EpsilonBytes, c.EpsilonBytesPerS = 0.01, 0.01 // in MB, as the paper has it
	rate, _ := migbuf.ThrottleRate(100, 40, 1, c)
	fmt.Printf("%.6f\n", rate)
	// Output: 51.357416
}

func ExampleLXDProcessed() {
	bytes, err := migbuf.LXDProcessed("1.2GB (110MB/s)")
	fmt.Println(bytes, err)
	// Output: 1200000000 <nil>
}

func ExamplePlacementPour() {
	placed, rest, _ := migbuf.PlacementPour([]float64{40, 70}, []float64{100, 100}, 90)
	fmt.Println(placed, rest)
	// Output: [60 30] 0
}

func ExamplePlannerFinish() {
	done, _ := migbuf.PlannerFinish([]float64{100, 400, 900}, nil, migbuf.PlannerLink{BytesPerS: 10, FlowBytesPerS: 100})
	fmt.Println(done)
	// Output: [30 90 140]
}

// overlaid stands for a QEMU whose disk lies on an overlay or not.
type overlaid struct {
	mu      sync.Mutex
	top     string
	inForce migbuf.ThrottleConfig
}

func (q *overlaid) puts(node string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.top = node
}

func (q *overlaid) limits() migbuf.ThrottleConfig {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.inForce
}

func (q *overlaid) Run(_ context.Context, command string, args any, resp any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	text, _ := json.Marshal(args)
	says := ""
	switch command {
	case "block_set_io_throttle":
		q.inForce = migbuf.ThrottleConfig{}
		return json.Unmarshal(text, &q.inForce)
	case "query-block":
		limits, _ := json.Marshal(q.inForce)
		says = `[{"qdev": "dev-lxd_root", "inserted": {"node-name": "` + q.top + `", ` + string(limits[1:]) + `}]`
	case "query-blockstats":
		says = `[{"qdev": "dev-lxd_root", "node-name": "` + q.top + `", "stats": {}}]`
	case "query-status":
		says = `{"running": true, "status": "running"}`
	default:
		return nil
	}
	return json.Unmarshal([]byte(`{"return": `+says+`}`), resp)
}

// What a daemon's migration function says to a Host, where the migration fails.
func ExampleHost() {
	ctx := context.Background()
	volume, _ := os.MkdirTemp("", "volume") // stands for a file system of its own
	defer os.RemoveAll(volume)
	host, err := migbuf.OpenHost(ctx, migbuf.HostConfig{Volume: volume, State: volume + "/state", CapacityBytes: 10 << 30})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close()
	qemu := &overlaid{top: "lxd_root", inForce: migbuf.ThrottleConfig{IopsWr: 500}}
	m, err := host.Migrate(ctx, migbuf.HostVM{Name: "vm1", Monitor: qemu,
		Disks: []migbuf.HostDisk{{Node: "lxd_root", Geometry: migbuf.NewGeometry(20 << 30)}}})
	fmt.Println("limited before there is an overlay:", err == nil && qemu.limits().Group == "migbuf-1")
	file, _ := os.Create(m.Path("/var/lib/vm1/overlay.qcow2"))
	defer file.Close()
	_ = m.Overlay(ctx, 0, file)
	qemu.puts("lxd_root_snapshot")                                                               // blockdev-snapshot
	fmt.Println(errors.Is(m.GiveUp(ctx), migbuf.ErrInUse))                                       // until it is merged it grows
	err = m.Merge(ctx, func(context.Context) error { return nil }, func(context.Context) error { // block-commit; block-job-complete
		qemu.puts("lxd_root")
		return nil
	})
	fmt.Println(err, m.GiveUp(ctx), "and the daemon's own limit again:", qemu.limits().IopsWr)
	// Output:
	// limited before there is an overlay: true
	// true
	// <nil> <nil> and the daemon's own limit again: 500
}
