// SPDX-License-Identifier: MIT

package migbuf

import (
	"encoding/json"
	"sync"
)

// LXDMonitor is what LXD's *qmp.Monitor lets others call of what a throttle needs.
type LXDMonitor interface {
	SetBlockThrottle(id string, bytesRead int, bytesWrite int, iopsRead int, iopsWrite int) error
	Pause() error
	Start() error
}

// LXDDisk is what LXD knows of a disk without asking QEMU; [DeviceNames.Disk] makes one of the device's name.
type LXDDisk struct {
	Node string         // the top node, "lxd_root"
	QDev string         // "dev-lxd_root"; with virtio-blk "/machine/peripheral/dev-lxd_root/virtio-backend"
	Host ThrottleConfig // the limits LXD itself has set, from the device's configuration
}

// FromLXD makes a Monitor of LXD's typed methods. They cannot ask for limits, make groups or set iops_size: say [Disk.Typed]
// and give the disks' [Geometry] the flag [NoIopsSize]. Lowering then wakes one waiting request, and a change by another hand
// is not noticed; where LXD exports its run method instead, pass that.
func FromLXD(m LXDMonitor, disks ...LXDDisk) Monitor {
	return &lxdAdapter{monitor: m, disks: append([]LXDDisk(nil), disks...)}
}

type lxdAdapter struct {
	monitor LXDMonitor
	mu      sync.Mutex
	disks   []LXDDisk // Host is what is in force
}

func (a *lxdAdapter) Run(command string, args any, resp any) error {
	switch command {
	case "query-block":
		return a.query(resp)
	case "block_set_io_throttle":
		return a.set(args)
	case "stop":
		return a.monitor.Pause()
	case "cont":
		return a.monitor.Start()
	}
	return &Error{Op: command, Code: ErrUnsupported, Text: "LXD's monitor has no method for it"}
}

func (a *lxdAdapter) query(resp any) error {
	type inserted struct {
		NodeName string `json:"node-name"`
		ThrottleConfig
	}
	type entry struct {
		QDev     string   `json:"qdev"`
		Inserted inserted `json:"inserted"`
	}
	a.mu.Lock()
	reply := map[string][]entry{"return": {}}
	for _, d := range a.disks {
		reply["return"] = append(reply["return"], entry{d.QDev, inserted{d.Node, d.Host}})
	}
	a.mu.Unlock()
	text, err := json.Marshal(reply)
	if err != nil || resp == nil {
		return err
	}
	return json.Unmarshal(text, resp)
}

func (a *lxdAdapter) set(args any) error {
	var wanted struct {
		ID string `json:"id"`
		ThrottleConfig
	}
	text, err := json.Marshal(args)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &wanted); err != nil {
		return err
	}
	typed := ThrottleConfig{BpsRd: wanted.BpsRd, BpsWr: wanted.BpsWr, IopsRd: wanted.IopsRd, IopsWr: wanted.IopsWr, Group: wanted.Group}
	if typed != wanted.ThrottleConfig {
		return &Error{Op: "block_set_io_throttle", Code: ErrUnsupported, Text: "LXD's monitor sets read and write rates only"}
	}
	if err := a.monitor.SetBlockThrottle(wanted.ID, int(wanted.BpsRd), int(wanted.BpsWr), int(wanted.IopsRd), int(wanted.IopsWr)); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.disks {
		if a.disks[i].QDev == wanted.ID {
			if typed.Group == "" {
				typed.Group = a.disks[i].Host.Group
			}
			a.disks[i].Host = typed
		}
	}
	return nil
}
