// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import (
	"os"
	"runtime"
	"unsafe"
)

// CowFileBytes is what an open overlay takes from its volume: its allocated bytes. Keep a duplicate of the descriptor: LXD
// and Incus remove the name before QEMU opens the file.
func CowFileBytes(f *os.File) (uint64, error) {
	var bytes C.uint64_t
	err := onDescriptor("cow_file_bytes", f, func(fd C.int, e *C.struct_migbuf_error) C.int {
		return C.migbuf_cow_file_bytes(fd, &bytes, e)
	})
	return uint64(bytes), err
}

// Volume is a file system's size.
type Volume struct {
	SizeBytes uint64
	FreeBytes uint64 // free for everybody; of the empty volume: the capacity for NewBuffer
	UsedBytes uint64
}

// CowVolume asks the file system of an open file or directory.
func CowVolume(f *os.File) (Volume, error) {
	var v Volume
	err := onDescriptor("cow_volume", f, func(fd C.int, e *C.struct_migbuf_error) C.int {
		return C.migbuf_cow_volume(fd, (*C.struct_migbuf_volume)(unsafe.Pointer(&v)), e)
	})
	return v, err
}

// What a file system's figures are worth, see cow.h.
const (
	CowLags         uint32 = C.MIGBUF_COW_LAGS
	CowCompresses   uint32 = C.MIGBUF_COW_COMPRESSES
	CowPreallocates uint32 = C.MIGBUF_COW_PREALLOCATES
	CowCopies       uint32 = C.MIGBUF_COW_COPIES
	CowUnknown      uint32 = C.MIGBUF_COW_UNKNOWN
)

// Filesystem says of what kind the volume is.
type Filesystem struct {
	Name  string // "ext4", "xfs", …; "" when not known
	Magic uint32
	Flags uint32 // Cow…
}

// CowFilesystem of an open file or directory.
func CowFilesystem(f *os.File) (Filesystem, error) {
	var fs C.struct_migbuf_filesystem
	err := onDescriptor("cow_filesystem", f, func(fd C.int, e *C.struct_migbuf_error) C.int { return C.migbuf_cow_filesystem(fd, &fs, e) })
	return Filesystem{C.GoString(&fs.name[0]), uint32(fs.magic), uint32(fs.flags)}, err
}

// CowSizes is CowFileBytes of many, in one crossing; flags as CowFilesystem gives them.
func CowSizes(files []*os.File, flags uint32) ([]uint64, error) {
	fds, sizes := make([]int32, len(files)), make([]uint64, len(files))
	for i, f := range files {
		fds[i] = int32(f.Fd())
	}
	var e C.struct_migbuf_error
	rc := C.migbuf_cow_sizes((*C.int32_t)(at(fds)), C.size_t(len(fds)), C.uint32_t(flags), (*C.uint64_t)(at(sizes)), &e)
	runtime.KeepAlive(files)
	return sizes, failedWith("cow_sizes", rc, &e)
}

// Full says what a volume does when it is full.
type Full int32

// Kinds of Full.
const (
	FullStops   Full = C.MIGBUF_FULL_STOPS   // ENOSPC: QEMU stops the guest, and cont repeats the write
	FullFails   Full = C.MIGBUF_FULL_FAILS   // a quota: the guest gets an I/O error and runs on
	FullUnknown Full = C.MIGBUF_FULL_UNKNOWN // take it for FullFails
)

// CowWhenFull says what a write gets that finds no room in this directory, and how much room there is. Ask when the volume
// is set up, while nobody uses it.
func CowWhenFull(dir *os.File) (kind Full, roomBytes uint64, err error) {
	var full C.struct_migbuf_full
	err = onDescriptor("cow_when_full", dir, func(fd C.int, e *C.struct_migbuf_error) C.int { return C.migbuf_cow_when_full(fd, &full, e) })
	return Full(full.kind), uint64(full.room_bytes), err
}

// StateDeviceRAM is what a VM's devices keep in memory of their own, LXD's usual ones: the default of DeviceRAMBytes.
const StateDeviceRAM uint64 = C.MIGBUF_STATE_DEVICE_RAM

// State describes a VM's memory dump. Start from [NewState].
type State struct {
	size           uint64
	MemoryBytes    uint64 // limits.memory
	DeviceRAMBytes uint64
	ResentBytes    uint64 // what the guest may write to its memory meanwhile; 0: it is stopped
	CPUs           uint32
	PageBytes      uint32
}

// NewState has the library's defaults.
func NewState(memoryBytes uint64) State {
	var s State
	C.migbuf_state_init((*C.struct_migbuf_state)(unsafe.Pointer(&s)), C.uint64_t(unsafe.Sizeof(s)))
	s.MemoryBytes = memoryBytes
	return s
}

// Bound is how large the dump can become, as it is and compressed by gzip.
func (s State) Bound() (rawBytes, gzipBytes uint64, err error) {
	var raw, gzip C.uint64_t
	rc := C.migbuf_state_bound((*C.struct_migbuf_state)(unsafe.Pointer(&s)), &raw, &gzip)
	return uint64(raw), uint64(gzip), failed("state_bound", rc)
}
