// SPDX-License-Identifier: MIT

//go:build cgo

package migbuf

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// DeviceNames are what LXD or Incus calls a device of a VM in its QEMU. They are for recognising: which node is on top of a
// device is what QEMU says (query-blockstats, by qdev).
type DeviceNames struct {
	Node    string // its block node without an overlay, for [NewDisk]
	Overlay string // the node a migration puts on top; "": the server moves no such device
	Target  string // the node for the disk on the other host; "" as above
	Device  string // the id of its QEMU device
}

// LXDNames are the names of the device that LXD knows as device: "root-disk" is lxd_root--disk, and of those longer than 27
// bytes a hash. LXD moves the device "root" alone.
func LXDNames(device string) DeviceNames {
	n := namesOf("lxd_", device, 27)
	if device == "root" {
		n.Overlay, n.Target = n.Node+"_snapshot", n.Node+"_nbd"
	}
	return n
}

// IncusNames are the names of the device that Incus, from 6.23, knows as device; before that the overlay was
// "incus_root_snapshot", and it moved "root" alone.
func IncusNames(device string) DeviceNames {
	n := namesOf("incus_", device, 25)
	n.Overlay, n.Target = n.Node+"_snap", n.Node+"_nbd"
	return n
}

// QDev is what query-block and block_set_io_throttle call the device, by its io.bus ("" for the servers' default).
func (n DeviceNames) QDev(bus string) string {
	if bus == "virtio-blk" {
		return "/machine/peripheral/" + n.Device + "/virtio-backend"
	}
	return n.Device
}

// Disk is what [FromLXD] needs to know of it; host are the limits that LXD has set.
func (n DeviceNames) Disk(bus string, host ThrottleConfig) LXDDisk {
	return LXDDisk{Node: n.Node, QDev: n.QDev(bus), Host: host}
}

func namesOf(prefix, device string, longest int) DeviceNames {
	name := strings.NewReplacer("-", "--", "/", "-").Replace(device)
	n := DeviceNames{Device: "dev-" + prefix + name}
	if len(name) > longest {
		sum := sha256.Sum256([]byte(name))
		name = base64.RawURLEncoding.EncodeToString(sum[:])[:longest]
	}
	n.Node = prefix + name
	return n
}
