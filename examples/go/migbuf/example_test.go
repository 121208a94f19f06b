// SPDX-License-Identifier: MIT

package migbuf_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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
	disk := migbuf.Geometry{VirtualBytes: 20 << 30, ClusterBytes: 65536, SubclusterBytes: 65536}
	if err := buffer.Add(migbuf.NewMigration(1), []migbuf.Geometry{disk}); err != nil {
		fmt.Println("not now:", err)
		return
	}
	decisions, err := buffer.Tick(0, nil)
	for _, d := range decisions {
		fmt.Println(d.Action, "to units of", d.Limits.IopsSize, "bytes, for", d.Reason)
	}
	fmt.Println(err)
	// Output:
	// lower to units of 65536 bytes, for what is free in the buffer, shared by all
	// <nil>
}

// No room is not a failure: ask again when another migration has ended.
func ExampleBuffer_Add() {
	buffer, _ := migbuf.NewBuffer(1<<20, nil)
	defer buffer.Close()
	disk := migbuf.Geometry{VirtualBytes: 1 << 30, ClusterBytes: 65536, SubclusterBytes: 65536, QueueBytes: 64 << 20}
	err := buffer.Add(migbuf.NewMigration(1), []migbuf.Geometry{disk})
	var detail *migbuf.Error
	if errors.Is(err, migbuf.ErrNoSpace) && errors.As(err, &detail) {
		fmt.Println("wait:", detail.Have, "bytes are free")
	}
	// Output: wait: 1048576 bytes are free
}

// The loop of a host: samples in, decisions out, each in one call for all migrations.
func ExampleBuffer_Tick() {
	buffer, _ := migbuf.NewBuffer(10<<30, nil)
	defer buffer.Close()
	disk := []migbuf.Geometry{{VirtualBytes: 20 << 30, ClusterBytes: 65536, SubclusterBytes: 65536, Flags: migbuf.Aligned}}
	_ = buffer.Add(migbuf.NewMigration(1), disk)
	_ = buffer.Add(migbuf.NewMigration(2), disk)
	var decisions []migbuf.Decision
	for second := 0; second < 3; second++ {
		samples := []migbuf.Sample{ // from CowFileBytes and query-blockstats
			{ID: 1, FileBytes: uint64(second) << 20},
			{ID: 2, FileBytes: uint64(second) << 30},
		}
		_ = buffer.Sample(samples)
		_ = buffer.Link(0, 125000000)
		decisions, _ = buffer.Tick(time.Duration(second)*time.Second, decisions)
		for _, d := range decisions {
			fmt.Print(second, ": ", d.ID, " ", d.Action, "; ")
		}
	}
	// Output: 0: 1 lower; 0: 2 lower; 1: 1 keep; 1: 2 keep; 2: 1 keep; 2: 2 keep;
}

// monitor stands for the host's own: it prints what it is asked to run, shortened.
type monitor struct{}

func (monitor) Run(command string, args any, resp any) error {
	var limits migbuf.ThrottleConfig
	text, _ := json.Marshal(args)
	_ = json.Unmarshal(text, &limits)
	fmt.Printf("%s iops_wr=%d group=%q\n", command, limits.IopsWr, limits.Group)
	if command == "query-block" {
		return json.Unmarshal([]byte(`{"return": [{"qdev": "dev-lxd_root", "inserted": {"node-name": "lxd_root", "iops_wr": 500}}]}`), resp)
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
	fmt.Println(disk.Learn(ctx, monitor{}))
	saved, _ := disk.Save() // where a restarted host finds it
	fmt.Println(strings.Fields(saved)[0])
	fmt.Println(disk.Set(ctx, monitor{}, migbuf.Limits{IopsWr: 16, IopsSize: 65536}))
	fmt.Println(disk.Restore(ctx, monitor{}))
	// Output:
	// query-block iops_wr=0 group=""
	// <nil>
	// migbuf-disk
	// object-add iops_wr=0 group=""
	// block_set_io_throttle iops_wr=16 group="migbuf-vm1"
	// <nil>
	// block_set_io_throttle iops_wr=500 group=""
	// object-del iops_wr=0 group=""
	// <nil>
}

func ExampleLimitsFromBudget() {
	disk := migbuf.Geometry{VirtualBytes: 1 << 30, ClusterBytes: 65536, SubclusterBytes: 65536}
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

func ExampleLinkProcessed() {
	bytes, err := migbuf.LinkProcessed("1.2GB (110MB/s)")
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
