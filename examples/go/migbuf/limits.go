// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import (
	"time"
	"unsafe"
)

// Flags of a Geometry.
const (
	Aligned    uint32 = C.MIGBUF_GEOMETRY_ALIGNED      // no request crosses a cluster boundary that it need not cross
	NoIopsSize uint32 = C.MIGBUF_GEOMETRY_NO_IOPS_SIZE // the host cannot set iops_size: LXD's typed monitor
)

// Geometry is one overlay and the device in front of it. All sizes are in bytes.
type Geometry struct {
	VirtualBytes    uint64 // size of the guest's disk
	ClusterBytes    uint64 // qcow2 cluster; LXD's default is 65536
	SubclusterBytes uint64 // what one small write allocates: the cluster, or cluster / 32 with extended_l2
	RequestBytes    uint64 // largest request the throttle can see, merged ones too
	QueueBytes      uint64 // most that one drain may pour into the file, see Drain
	Flags           uint32
	reserved        uint32
}

// Limits are what to send to QEMU for one migration. 0: that limit is not used.
type Limits struct {
	IopsWr   uint64 // units per second
	IopsSize uint64 // bytes per unit
	BpsWr    uint64 // bytes per second
}

// ThrottleConfig is the throttle of one disk exactly as query-block shows it (in "inserted") and block_set_io_throttle
// takes it; it reads and writes that JSON.
type ThrottleConfig struct {
	Bps             uint64 `json:"bps"`
	BpsRd           uint64 `json:"bps_rd"`
	BpsWr           uint64 `json:"bps_wr"`
	Iops            uint64 `json:"iops"`
	IopsRd          uint64 `json:"iops_rd"`
	IopsWr          uint64 `json:"iops_wr"`
	BpsMax          uint64 `json:"bps_max,omitempty"`
	BpsRdMax        uint64 `json:"bps_rd_max,omitempty"`
	BpsWrMax        uint64 `json:"bps_wr_max,omitempty"`
	IopsMax         uint64 `json:"iops_max,omitempty"`
	IopsRdMax       uint64 `json:"iops_rd_max,omitempty"`
	IopsWrMax       uint64 `json:"iops_wr_max,omitempty"`
	BpsMaxLength    uint64 `json:"bps_max_length,omitempty"`
	BpsRdMaxLength  uint64 `json:"bps_rd_max_length,omitempty"`
	BpsWrMaxLength  uint64 `json:"bps_wr_max_length,omitempty"`
	IopsMaxLength   uint64 `json:"iops_max_length,omitempty"`
	IopsRdMaxLength uint64 `json:"iops_rd_max_length,omitempty"`
	IopsWrMaxLength uint64 `json:"iops_wr_max_length,omitempty"`
	IopsSize        uint64 `json:"iops_size,omitempty"`
	Group           string `json:"group,omitempty"` // "" when the disk is not throttled
}

// configNumbers is the part of a config that has the same layout here and in C: all but the group.
const configNumbers = unsafe.Offsetof(ThrottleConfig{}.Group)

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

// HostFlags is NoIopsSize when the host limits read requests on this disk, else 0: add it to the disk's Geometry.
func (t ThrottleConfig) HostFlags() uint32 {
	var c C.struct_migbuf_throttle_config
	t.toC(&c)
	return uint32(C.migbuf_limits_host_flags(&c))
}

// Merge lays our limits over the host's own: what block_set_io_throttle has to be told so that both hold.
func (t ThrottleConfig) Merge(ours Limits) (ThrottleConfig, error) {
	var c, merged C.struct_migbuf_throttle_config
	t.toC(&c)
	rc := C.migbuf_limits_merge(&c, (*C.struct_migbuf_limits)(unsafe.Pointer(&ours)), &merged)
	return configOf(&merged), failed("limits_merge", rc)
}

func (g *Geometry) c() *C.struct_migbuf_geometry {
	return (*C.struct_migbuf_geometry)(unsafe.Pointer(g))
}

// Check tells what is wrong with a geometry, if anything.
func (g Geometry) Check() error { return failed("geometry_check", C.migbuf_geometry_check(g.c())) }

// RequestGrowth is by how many bytes a file grows, at most, for one guest write of that length; metadata aside.
func (g Geometry) RequestGrowth(lengthBytes uint64) (uint64, error) {
	var bytes C.uint64_t
	rc := C.migbuf_limits_request_growth(g.c(), C.uint64_t(lengthBytes), &bytes)
	return uint64(bytes), failed("limits_request_growth", rc)
}

// Amplification is the worst growth per unit the throttle lets through, as a factor of the unit.
func (g Geometry) Amplification() (float64, error) {
	var factor C.double
	rc := C.migbuf_limits_amplification(g.c(), &factor)
	return float64(factor), failed("limits_amplification", rc)
}

// Metadata is all the metadata a fully written overlay can hold.
func (g Geometry) Metadata() (uint64, error) {
	var bytes C.uint64_t
	rc := C.migbuf_limits_metadata(g.c(), &bytes)
	return uint64(bytes), failed("limits_metadata", rc)
}

// MetadataOf is what so many bytes of new data can bring along at most.
func (g Geometry) MetadataOf(dataBytes uint64) (uint64, error) {
	var bytes C.uint64_t
	rc := C.migbuf_limits_metadata_of(g.c(), C.uint64_t(dataBytes), &bytes)
	return uint64(bytes), failed("limits_metadata_of", rc)
}

// WholeDisk is the most an overlay can ever weigh.
func (g Geometry) WholeDisk() (uint64, error) {
	var bytes C.uint64_t
	rc := C.migbuf_limits_whole_disk(g.c(), &bytes)
	return uint64(bytes), failed("limits_whole_disk", rc)
}

// Drain is what one drain may pour into the file: every queued request at once. Set QueueBytes to it.
func (g Geometry) Drain(inFlight, requestBytes uint64) (uint64, error) {
	var bytes C.uint64_t
	rc := C.migbuf_limits_drain(g.c(), C.uint64_t(inFlight), C.uint64_t(requestBytes), &bytes)
	return uint64(bytes), failed("limits_drain", rc)
}

// WorstGrowth is the most that a file can grow in an interval under given limits; +Inf where they do not bound it.
func (g Geometry) WorstGrowth(limits Limits, interval time.Duration) (float64, error) {
	var bytes C.double
	rc := C.migbuf_limits_worst_growth(g.c(), (*C.struct_migbuf_limits)(unsafe.Pointer(&limits)), C.double(interval.Seconds()), &bytes)
	return float64(bytes), failed("limits_worst_growth", rc)
}

// LimitsFromBudget turns a budget of file growth into QEMU's limits. Zero limits without an error: the budget is below one
// unit per second, so pause the guest; to QEMU 0 would mean unlimited.
func LimitsFromBudget(disks []Geometry, growthBytesPerS uint64) (Limits, error) {
	var l Limits
	rc := C.migbuf_limits_from_budget((*C.struct_migbuf_geometry)(at(disks)), C.size_t(len(disks)), C.uint64_t(growthBytesPerS),
		(*C.struct_migbuf_limits)(unsafe.Pointer(&l)))
	return l, failed("limits_from_budget", rc)
}
