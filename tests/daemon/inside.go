// SPDX-License-Identifier: MIT

// What an Incus needs of its own to have a migbuf.Host: inside.py puts it beside driver_qemu.go.
package drivers

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/lxc/incus/internal/server/instance/drivers/qmp"
	"github.com/lxc/incus/internal/server/project"
	internalUtil "github.com/lxc/incus/internal/util"
	"migbuf.example/migbuf"
)

// Without a volume it is nil, and all its calls do nothing.
var migrationBuffer = sync.OnceValues(func() (*migbuf.Host, error) {
	return migbuf.OpenHost(context.Background(), migbuf.HostConfig{
		Volume:  os.Getenv("INCUS_MIGBUF_VOLUME"), // stands for a key of the server's
		State:   internalUtil.VarPath("migbuf"),
		Options: &migbuf.BufferOptions{LateFactorPercent: 600, LagMs: 1000},
	})
})

func (d *qemu) intoBuffer(ctx context.Context, monitor *qmp.Monitor, bytes int64) (*migbuf.Member, error) {
	host, err := migrationBuffer()
	if err != nil {
		return nil, err
	}

	root := migbuf.HostDisk{Node: migbuf.IncusNames("root").Node, Geometry: migbuf.NewGeometry(uint64(bytes))}
	root.Geometry.RequestBytes, root.Geometry.ExtraBytes = 1<<20, migbuf.None
	root.Geometry.QueueBytes, err = root.Geometry.Drain(32, 64<<10)
	if err != nil {
		return nil, err
	}

	name := project.Instance(d.project.Name, d.name)
	return host.Migrate(ctx, migbuf.HostVM{Name: name, Monitor: migbuf.FromRunner(monitor, migbuf.RefusedByText), Disks: []migbuf.HostDisk{root}})
}

// merge is BlockCommit, and then until its job has ended.
func merge(ctx context.Context, m *migbuf.Member, monitor *qmp.Monitor, node string) error {
	return m.Merge(ctx, func(context.Context) error { return monitor.BlockCommit(node) }, func(ctx context.Context) error {
		for {
			var jobs struct {
				Return []struct{ Device string } `json:"return"`
			}
			err := monitor.Run("query-block-jobs", nil, &jobs)
			if err != nil || len(jobs.Return) == 0 {
				return err
			}

			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
}
