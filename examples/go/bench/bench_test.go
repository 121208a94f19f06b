// SPDX-License-Identifier: MIT

package bench

import (
	"fmt"
	"testing"
	"time"

	"migbuf.example/migbuf"
)

func loopInGo(n, ticks int) error {
	b, err := migbuf.NewBuffer(uint64(n)<<30, nil)
	if err != nil {
		return err
	}
	defer b.Close()
	disk := migbuf.NewGeometry(20 << 30)
	disk.RequestBytes, disk.QueueBytes, disk.ExtraBytes, disk.Flags = 65536, 4<<20, migbuf.None, migbuf.GeometryAligned
	for id := 0; id < n; id++ {
		if err := b.Add(migbuf.NewMigration(uint64(id)), []migbuf.Geometry{disk}); err != nil {
			return err
		}
	}
	samples := make([]migbuf.Sample, n)
	var decisions []migbuf.Decision
	for t := 0; t < ticks; t++ {
		for id := range samples {
			samples[id] = migbuf.Sample{ID: uint64(id), FileBytes: uint64((t+id)%500) << 20}
		}
		now := time.Duration(t) * time.Second
		if err := b.Sample(now, samples); err != nil {
			return err
		}
		if decisions, err = b.Tick(now, decisions); err != nil {
			return err
		}
	}
	return nil
}

// One tick with samples for all migrations: go test -bench . ./bench
func BenchmarkTick(b *testing.B) {
	for _, n := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("Go-%d", n), func(b *testing.B) {
			b.ReportAllocs()
			if err := loopInGo(n, b.N); err != nil {
				b.Fatal(err)
			}
		})
		b.Run(fmt.Sprintf("C-%d", n), func(b *testing.B) {
			if rc := LoopInC(n, b.N); rc != 0 {
				b.Fatal(migbuf.Code(rc))
			}
		})
	}
}

// Both loops run. A tick from Go allocates two words for the crossings, whatever the number of migrations.
func TestLoops(t *testing.T) {
	if err := loopInGo(64, 20); err != nil {
		t.Error(err)
	}
	if rc := LoopInC(64, 20); rc != 0 {
		t.Error(migbuf.Code(rc))
	}
	few := testing.AllocsPerRun(5, func() { _ = loopInGo(64, 1) })
	many := testing.AllocsPerRun(5, func() { _ = loopInGo(64, 101) })
	if many-few > 250 {
		t.Errorf("100 more ticks allocate %.0f times", many-few)
	}
}
