// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import (
	"time"
	"unsafe"
)

// GeometryFlags say what is special about an overlay or the device in front of it.
type GeometryFlags uint32

// Flags of a Geometry.
const (
	// GeometryAligned: every write that reaches the throttle is a multiple of a unit and starts at a unit's boundary, or
	// lies within one unit. One unit then grows the file by one unit, not three. Merged writes count as one: it takes a
	// device that merges none (virtio-blk: request-merging=off). "Aligned to 4 KiB" is not enough.
	GeometryAligned GeometryFlags = C.MIGBUF_GEOMETRY_ALIGNED
	// GeometryNoIopsSize: the host cannot set iops_size (a monitor with typed calls only, [FromLXD]). Bytes and requests
	// then share the budget.
	GeometryNoIopsSize GeometryFlags = C.MIGBUF_GEOMETRY_NO_IOPS_SIZE
	// GeometryNoWhole: the file may outgrow its disk, by internal snapshots or discard=unmap on a block device. It never
	// fits as a whole.
	GeometryNoWhole GeometryFlags = C.MIGBUF_GEOMETRY_NO_WHOLE
)

// String names the flags: "aligned|no iops_size", "none".
func (f GeometryFlags) String() string {
	return flagText([]string{"aligned", "no iops_size", "no whole disk"}, uint32(f))
}

// Geometry is one overlay and the device in front of it. All sizes are in bytes. Start from [NewGeometry], then say what
// you know. A field that is 0 because nobody filled it switches nothing off: it counts as the worst that is likely.
type Geometry struct {
	VirtualBytes    uint64        // size of the guest's disk, 1 to 2^60
	ClusterBytes    uint64        // qcow2 cluster, a power of two, 512 to 2 MiB; 65536 is qemu-img's own
	SubclusterBytes uint64        // ClusterBytes; with extended_l2, which needs clusters of 16 KiB, ClusterBytes / 32
	BlockBytes      uint64        // least that Ω's file system allocates, a power of two up to 16 MiB; 0: not known, as ClusterBytes
	RequestBytes    uint64        // largest request the throttle can see, merged ones too, 1 to 2^40; 0: not known, as 40 MiB; None
	QueueBytes      uint64        // most that one drain may pour into the file, see Drain, 1 to 2^50; 0: not known, as 256 requests of 1.25 MiB; None: the guest stands before every drain
	ExtraBytes      uint64        // in the file beside data and qcow2's tables, 1 to 2^50; 0: not known, as 16 MiB; None: no encryption, no bitmaps
	Flags           GeometryFlags // what is special about it; 0: nothing
	reserved        uint32
}

// NewGeometry is a guest nobody knows, on a plain qcow2 overlay as LXD and Incus make it: clusters of 64 KiB without
// subclusters, and all else not known. What is not known costs room: such a guest needs 1.9 GB beside its file. Each
// figure that is given lowers it, QueueBytes most.
//
//	g := migbuf.NewGeometry(20 << 30)
//	g.QueueBytes, err = g.Drain(32, 65536) // 32 in flight, of 64 KiB: 6 MiB
func NewGeometry(virtualBytes uint64) Geometry {
	var g Geometry
	C.migbuf_geometry_init(g.c(), 1)
	g.VirtualBytes = virtualBytes // Check says whether it is in its range
	return g
}

// Limits are what to send to QEMU for one migration. 0: that limit is not used.
type Limits struct {
	IopsWr   uint64 // units a second
	IopsSize uint64 // bytes per unit
	BpsWr    uint64 // bytes a second
}

// ThrottleConfig is the throttle of one disk exactly as query-block shows it (in "inserted") and block_set_io_throttle
// takes it. It reads and writes that JSON. Rates are bytes/s and requests/s, bursts too; lengths are how long a burst may
// last, in s. 0: not set.
type ThrottleConfig struct {
	Bps             uint64 `json:"bps"`                          // reads and writes together, bytes/s
	BpsRd           uint64 `json:"bps_rd"`                       // reads, bytes/s
	BpsWr           uint64 `json:"bps_wr"`                       // writes, bytes/s
	Iops            uint64 `json:"iops"`                         // reads and writes together, requests/s
	IopsRd          uint64 `json:"iops_rd"`                      // reads, requests/s
	IopsWr          uint64 `json:"iops_wr"`                      // writes, requests/s
	BpsMax          uint64 `json:"bps_max,omitempty"`            // burst of Bps
	BpsRdMax        uint64 `json:"bps_rd_max,omitempty"`         // burst of BpsRd
	BpsWrMax        uint64 `json:"bps_wr_max,omitempty"`         // burst of BpsWr
	IopsMax         uint64 `json:"iops_max,omitempty"`           // burst of Iops
	IopsRdMax       uint64 `json:"iops_rd_max,omitempty"`        // burst of IopsRd
	IopsWrMax       uint64 `json:"iops_wr_max,omitempty"`        // burst of IopsWr
	BpsMaxLength    uint64 `json:"bps_max_length,omitempty"`     // of BpsMax
	BpsRdMaxLength  uint64 `json:"bps_rd_max_length,omitempty"`  // of BpsRdMax
	BpsWrMaxLength  uint64 `json:"bps_wr_max_length,omitempty"`  // of BpsWrMax
	IopsMaxLength   uint64 `json:"iops_max_length,omitempty"`    // of IopsMax
	IopsRdMaxLength uint64 `json:"iops_rd_max_length,omitempty"` // of IopsRdMax
	IopsWrMaxLength uint64 `json:"iops_wr_max_length,omitempty"` // of IopsWrMax
	IopsSize        uint64 `json:"iops_size,omitempty"`          // bytes that count as one request; 0: a request is one
	Group           string `json:"group,omitempty"`              // the throttle group; "" when the disk is not throttled
}

// configNumbers is the part of a config that has the same layout here and in C: all but the group.
const configNumbers = unsafe.Offsetof(ThrottleConfig{}.Group)

// groupBytes is the room for a group's name in C, its NUL included.
const groupBytes = int(unsafe.Sizeof(C.struct_migbuf_throttle_config{}.group))

func bytesOf(p unsafe.Pointer, n uintptr) []byte { return unsafe.Slice((*byte)(p), n) }

// toC copies a config; false when its group's name is too long.
func (t *ThrottleConfig) toC(c *C.struct_migbuf_throttle_config) bool {
	*c = C.struct_migbuf_throttle_config{}
	copy(bytesOf(unsafe.Pointer(c), configNumbers), bytesOf(unsafe.Pointer(t), configNumbers))
	group := bytesOf(unsafe.Pointer(&c.group), unsafe.Sizeof(c.group))
	return copy(group[:len(group)-1], t.Group) == len(t.Group)
}

func configOf(c *C.struct_migbuf_throttle_config) ThrottleConfig {
	var t ThrottleConfig
	copy(bytesOf(unsafe.Pointer(&t), configNumbers), bytesOf(unsafe.Pointer(c), configNumbers))
	t.Group = C.GoString(&c.group[0])
	return t
}

func longGroup(op string) error {
	return &Error{Op: op, Code: ErrTooBig, Text: "the group's name is longer than 255 bytes"}
}

// HostFlags is GeometryNoIopsSize when the host limits read requests on this disk, else 0: add it to the disk's Geometry.
// iops_size weighs reads as well, and a host's readers must not pay for our limit.
func (t ThrottleConfig) HostFlags() GeometryFlags {
	var c C.struct_migbuf_throttle_config
	t.toC(&c)
	return GeometryFlags(C.migbuf_limits_host_flags(&c))
}

// MergeLimits lays our limits over the host's own: what block_set_io_throttle has to be told so that both hold. hosts are
// the host's own limits of one or more disks that are to share one throttle group: of each rate the strictest holds.
// Where the host limits reads and writes together, each gets half of it, as QEMU takes no total beside a read or write
// limit. Bursts of writes are dropped. The result's Group is "". Errors: ErrInvalid for no disks, ErrTooBig.
func MergeLimits(hosts []ThrottleConfig, ours Limits) (ThrottleConfig, error) {
	var merged C.struct_migbuf_throttle_config
	c := make([]C.struct_migbuf_throttle_config, len(hosts))
	for i := range hosts {
		if !hosts[i].toC(&c[i]) {
			return ThrottleConfig{}, longGroup("limits_merge")
		}
	}
	rc := C.migbuf_limits_merge((*C.struct_migbuf_throttle_config)(at(c)), C.size_t(len(c)), (*C.struct_migbuf_limits)(unsafe.Pointer(&ours)), &merged)
	return configOf(&merged), failed("limits_merge", rc)
}

func (g *Geometry) c() *C.struct_migbuf_geometry {
	return (*C.struct_migbuf_geometry)(unsafe.Pointer(g))
}

// failed says of a geometry that is none what is wrong with it.
func (g *Geometry) failed(op string, rc C.int) error {
	err := failed(op, rc)
	if e, ok := err.(*Error); ok && C.migbuf_geometry_check(g.c()) < 0 {
		e.Text = g.fault()
	}
	return err
}

func (g *Geometry) fault() string {
	aligned := *g
	aligned.Flags &^= GeometryAligned
	switch {
	case g.ClusterBytes == 0:
		return "ClusterBytes is 0: start from NewGeometry"
	case g.VirtualBytes == 0 || g.VirtualBytes > 1<<60:
		return "VirtualBytes is not in 1 to 2^60"
	case g.Flags&^(GeometryAligned|GeometryNoIopsSize|GeometryNoWhole) != 0:
		return "there is an unknown flag"
	case C.migbuf_geometry_check(aligned.c()) == 0:
		return "GeometryAligned, and RequestBytes is larger than a unit and no multiple of it"
	}
	return "ClusterBytes and BlockBytes are powers of two, SubclusterBytes is the cluster or a 32nd of one of at least 16 KiB, and no size is above its range"
}

// Check tells what is wrong with a geometry, if anything. Errors: ErrInvalid, ErrRange. Those of the methods below too.
func (g Geometry) Check() error { return g.failed("geometry_check", C.migbuf_geometry_check(g.c())) }

// Unit is what one small write allocates, in bytes: the subcluster, or the file system's block where that is larger.
func (g Geometry) Unit() (uint64, error) {
	var bytes C.uint64_t
	rc := C.migbuf_geometry_unit(g.c(), &bytes)
	return uint64(bytes), g.failed("geometry_unit", rc)
}

// RequestGrowth is by how many bytes a file grows, at most, for one guest write of that length; tables aside.
func (g Geometry) RequestGrowth(lengthBytes uint64) (uint64, error) {
	var bytes C.uint64_t
	rc := C.migbuf_limits_request_growth(g.c(), C.uint64_t(lengthBytes), &bytes)
	return uint64(bytes), g.failed("limits_request_growth", rc)
}

// Amplification is the worst growth per unit the throttle lets through, as a factor of the unit: 1 when aligned, else 3.
func (g Geometry) Amplification() (float64, error) {
	var factor C.double
	rc := C.migbuf_limits_amplification(g.c(), &factor)
	return float64(factor), g.failed("limits_amplification", rc)
}

// Metadata is all the tables a fully written overlay can hold, in bytes.
func (g Geometry) Metadata() (uint64, error) {
	var bytes C.uint64_t
	rc := C.migbuf_limits_metadata(g.c(), &bytes)
	return uint64(bytes), g.failed("limits_metadata", rc)
}

// MetadataOf is the tables that so many bytes of new data, lying next to each other, can bring along at most, in bytes.
func (g Geometry) MetadataOf(dataBytes uint64) (uint64, error) {
	var bytes C.uint64_t
	rc := C.migbuf_limits_metadata_of(g.c(), C.uint64_t(dataBytes), &bytes)
	return uint64(bytes), g.failed("limits_metadata_of", rc)
}

// MetadataScattered is the tables that so many units bring along when each lies where none was before, in bytes.
func (g Geometry) MetadataScattered(units float64) (float64, error) {
	var bytes C.double
	rc := C.migbuf_limits_metadata_scattered(g.c(), C.double(units), &bytes)
	return float64(bytes), g.failed("limits_metadata_scattered", rc)
}

// WholeDisk is the most an overlay can ever weigh, in bytes; 2^60 with GeometryNoWhole.
func (g Geometry) WholeDisk() (uint64, error) {
	var bytes C.uint64_t
	rc := C.migbuf_limits_whole_disk(g.c(), &bytes)
	return uint64(bytes), g.failed("limits_whole_disk", rc)
}

// Drain is what one drain may pour into the file, in bytes: so many requests of that length at once, each with its own
// tables. inFlight is the device's queue depth, or the most the guest has in flight. Set QueueBytes to it.
//
// It holds for one drain. Completing a commit of a running guest drains again and again until nothing is dirty: stop the
// guest before block-job-complete, and let it run when the job has ended.
func (g Geometry) Drain(inFlight, requestBytes uint64) (uint64, error) {
	var bytes C.uint64_t
	rc := C.migbuf_limits_drain(g.c(), C.uint64_t(inFlight), C.uint64_t(requestBytes), &bytes)
	return uint64(bytes), g.failed("limits_drain", rc)
}

// WorstGrowth is the most that a file can grow in an interval under given limits, in bytes; +Inf where they do not bound
// it. Each further time that the limits are set within the interval adds a tenth of a second and one request.
func (g Geometry) WorstGrowth(limits Limits, interval time.Duration) (float64, error) {
	var bytes C.double
	rc := C.migbuf_limits_worst_growth(g.c(), (*C.struct_migbuf_limits)(unsafe.Pointer(&limits)), C.double(interval.Seconds()), &bytes)
	return float64(bytes), g.failed("limits_worst_growth", rc)
}

// LimitsFromBudget turns a budget of file growth into QEMU's limits, for all disks of a VM together. Zero limits without
// an error: the budget is below one unit a second, so pause the guest, for to QEMU 0 would mean unlimited. Errors: those
// of Check, ErrInvalid for no disks.
func LimitsFromBudget(disks []Geometry, growthBytesPerS uint64) (Limits, error) {
	var l Limits
	for i := range disks {
		if err := disks[i].Check(); err != nil {
			return l, err
		}
	}
	rc := C.migbuf_limits_from_budget((*C.struct_migbuf_geometry)(at(disks)), C.size_t(len(disks)), C.uint64_t(growthBytesPerS),
		(*C.struct_migbuf_limits)(unsafe.Pointer(&l)))
	return l, failed("limits_from_budget", rc)
}
