// SPDX-License-Identifier: MIT

//go:build cgo

package migbuf

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
)

// LXDMonitor is what LXD's *qmp.Monitor lets others call of what a throttle needs.
type LXDMonitor interface {
	SetBlockThrottle(id string, bytesRead int, bytesWrite int, iopsRead int, iopsWrite int) error
	Status() (string, error)
	Pause() error
	Start() error
}

// LXDDisk is what LXD knows of a disk without asking QEMU; [DeviceNames.Disk] makes one of the device's name.
type LXDDisk struct {
	Node string         // the top node, "lxd_root"
	QDev string         // "dev-lxd_root"; with virtio-blk "/machine/peripheral/dev-lxd_root/virtio-backend"
	Host ThrottleConfig // the limits LXD itself has set, from the device's configuration
}

// FromLXD makes a Monitor of LXD's methods of six rates. refused tells which errors are QEMU's own answers, as in [FromRunner].
// The methods cannot make groups or set iops_size: say [Disk.SixRates], and give the disks' [Geometry] the flag
// [GeometryNoIopsSize]. Lowering then wakes one waiting request.
//
// They cannot ask for limits either, so query-block is answered from what was set. After a call of which nobody knows what
// became, the same limits are set once more first: it is known then. A change by another hand is not noticed; who makes
// one calls [Disk.TellHostLimits]; and so does, after LoadDisk and Pump, who cannot rule out that the configuration was changed
// before. Where LXD exports its run method instead, pass that to FromRunner.
func FromLXD(m LXDMonitor, refused func(error) bool, disks ...LXDDisk) Monitor {
	if m == nil {
		return nil
	}
	a := &fromLXD{monitor: m, refused: refused}
	for _, d := range disks {
		a.disks = append(a.disks, lxdDisk{LXDDisk: d})
	}
	return a
}

// lxdDisk is a disk and what is in force on it: Host.
type lxdDisk struct {
	LXDDisk
	doubtful bool // tried may be in force instead
	tried    ThrottleConfig
}

type fromLXD struct {
	monitor LXDMonitor
	refused func(error) bool
	mu      sync.Mutex // of disks; held while LXD's monitor is at work, which does one thing at a time anyway
	disks   []lxdDisk
}

func (a *fromLXD) Run(_ context.Context, command string, args any, resp any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch command {
	case "query-block":
		return a.query(resp)
	case "block_set_io_throttle":
		return a.set(args)
	case "query-status":
		status, err := a.monitor.Status()
		if err != nil {
			return marked(err, a.refused)
		}
		return reply(resp, map[string]any{"status": status, "running": status == "running"})
	case "stop":
		return marked(a.monitor.Pause(), a.refused)
	case "cont":
		return marked(a.monitor.Start(), a.refused)
	}
	return unsupported(command, "LXD's monitor has no method for it")
}

// unsupported: nothing was sent, and nothing will be.
func unsupported(command, text string) error {
	return Refused(&Error{Op: command, Code: ErrUnsupported, Text: text, Outcome: OutcomeRefused})
}

// reply puts a value into resp as a monitor would.
func reply(resp any, value any) error {
	text, err := json.Marshal(map[string]any{"return": value})
	if err != nil || resp == nil {
		return err
	}
	return json.Unmarshal(text, resp)
}

func (a *fromLXD) query(resp any) error {
	type inserted struct {
		NodeName string `json:"node-name"`
		ThrottleConfig
	}
	type entry struct {
		QDev     string   `json:"qdev"`
		Inserted inserted `json:"inserted"`
	}
	entries := []entry{}
	for i := range a.disks {
		d := &a.disks[i]
		if d.doubtful {
			if err := a.try(d, d.tried); err != nil && !errors.Is(err, ErrPeer) {
				return err
			}
		}
		entries = append(entries, entry{d.QDev, inserted{d.Node, d.Host}})
	}
	return reply(resp, entries)
}

func (a *fromLXD) set(args any) error {
	const command = "block_set_io_throttle"
	var wanted struct {
		ID string `json:"id"`
		ThrottleConfig
	}
	text, err := json.Marshal(args)
	if err == nil {
		err = json.Unmarshal(text, &wanted)
	}
	if err != nil {
		return unsupported(command, err.Error())
	}
	sixRates := ThrottleConfig{BpsRd: wanted.BpsRd, BpsWr: wanted.BpsWr, IopsRd: wanted.IopsRd, IopsWr: wanted.IopsWr, Group: wanted.Group}
	if sixRates != wanted.ThrottleConfig {
		return unsupported(command, "LXD's monitor sets read and write rates only")
	}
	for i := range a.disks {
		if a.disks[i].QDev == wanted.ID {
			return a.try(&a.disks[i], sixRates)
		}
	}
	return unsupported(command, "it is not a disk given to FromLXD")
}

// try sets limits, and keeps in mind what is in force or may be.
func (a *fromLXD) try(d *lxdDisk, limits ThrottleConfig) error {
	err := marked(a.monitor.SetBlockThrottle(d.QDev, int(limits.BpsRd), int(limits.BpsWr), int(limits.IopsRd), int(limits.IopsWr)), a.refused)
	switch {
	case err == nil:
		if limits.Group == "" {
			limits.Group = d.Host.Group
		}
		d.Host, d.doubtful = limits, false
	case errors.Is(err, ErrPeer):
		d.doubtful = false // QEMU takes no limits for it, then or now: what was in force still is
	default:
		d.tried, d.doubtful = limits, true
	}
	return err
}
