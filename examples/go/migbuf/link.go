// SPDX-License-Identifier: MIT

package migbuf

// #include <stdlib.h>
// #include <migbuf/migbuf.h>
import "C"

import (
	"syscall"
	"time"
	"unsafe"
)

// LinkLeast is what Mean gives at least, in bytes/s: nothing is planned with less.
const LinkLeast float64 = C.MIGBUF_LINK_LEAST

// Link holds what is known of a link: link.h. Start from [NewLink].
type Link struct {
	latest, mean, best float64
	atMs               uint64
}

// NewLink knows nothing; nominal > 0 (bytes/s) is taken until something was measured.
func NewLink(nominalBytesPerS float64) (Link, error) {
	var l Link
	rc := C.migbuf_link_init(l.c(), C.double(nominalBytesPerS))
	return l, failed("link_init", rc)
}

func (l *Link) c() *C.struct_migbuf_link { return (*C.struct_migbuf_link)(unsafe.Pointer(l)) }

// Update takes a sample of what the link carried since the last one; atLeast: its sender was the limit, not the link. It
// tells whether the sample counted.
func (l *Link) Update(now time.Duration, bytesPerS float64, atLeast bool) (bool, error) {
	var flags C.uint32_t
	if atLeast {
		flags = C.MIGBUF_LINK_AT_LEAST
	}
	rc := C.migbuf_link_update(l.c(), milliseconds(now), C.double(bytesPerS), flags)
	return rc == 1, failed("link_update", rc)
}

// Now is the last sample, held; 0 when nothing is known.
func (l *Link) Now() float64 { return float64(C.migbuf_link_now(l.c())) }

// Mean is the mean of the last minute, for planning.
func (l *Link) Mean() float64 { return float64(C.migbuf_link_mean(l.c())) }

// LinkFlow is one counter that rises. The zero value was not looked at yet.
type LinkFlow struct {
	atMs, bytes     uint64
	known, reserved uint32
}

// Reset forgets what was seen.
func (f *LinkFlow) Reset() { C.migbuf_link_flow_init((*C.struct_migbuf_link_flow)(unsafe.Pointer(f))) }

// Update says where the counter stands; the rate since the last time, and whether there is one.
func (f *LinkFlow) Update(now time.Duration, bytes uint64) (bytesPerS float64, ok bool, err error) {
	var rate C.double
	rc := C.migbuf_link_flow_update((*C.struct_migbuf_link_flow)(unsafe.Pointer(f)), milliseconds(now), C.uint64_t(bytes), &rate)
	return float64(rate), rc == 1, failed("link_flow_update", rc)
}

// LinkProcessed reads a counter of bytes as LXD and Incus write it in an operation's metadata, with a description before it or
// without one: "vm1: 1.20GB (110.00MB/s)". A text without a counter ("vm1: 45% (…)") is ErrProtocol.
func LinkProcessed(text string) (uint64, error) {
	var bytes C.uint64_t
	t := []byte(text + "\x00")
	rc := C.migbuf_link_processed((*C.char)(at(t)), C.size_t(len(text)), &bytes)
	return uint64(bytes), failed("link_processed", rc)
}

// TCP is what the kernel knows about a connection.
type TCP struct {
	AckedBytes        uint64 // a counter for LinkFlow.Update
	DeliveryBytesPerS uint64
	UnsentBytes       uint64 // > 0: the link, not the sender, is the limit
	BusyUs            uint64 // how long it has had something to send
	flags, reserved   uint32
}

// AtLeast tells whether the sender was slower than the connection.
func (t *TCP) AtLeast() bool { return t.flags&C.MIGBUF_LINK_AT_LEAST != 0 }

// onDescriptor calls f with the descriptor of a file or connection, which stays its own all the while.
func onDescriptor(op string, c syscall.Conn, f func(fd C.int, e *C.struct_migbuf_error) C.int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return &Error{Op: op, Code: ErrInvalid, Cause: err}
	}
	var detail C.struct_migbuf_error
	var rc C.int
	if err := raw.Control(func(fd uintptr) { rc = f(C.int(fd), &detail) }); err != nil {
		return &Error{Op: op, Code: ErrInvalid, Cause: err}
	}
	return failedWith(op, rc, &detail)
}

// LinkTCP asks the kernel about a connection, a *net.TCPConn for one. Linux.
func LinkTCP(conn syscall.Conn) (TCP, error) {
	var t TCP
	err := onDescriptor("link_tcp", conn, func(fd C.int, e *C.struct_migbuf_error) C.int {
		return C.migbuf_link_tcp(fd, (*C.struct_migbuf_link_tcp)(unsafe.Pointer(&t)), e)
	})
	return t, err
}

// Connection is a TCP connection of this machine, whoever owns it.
type Connection struct {
	Local, Remote string // "10.0.0.1:44321", "[2001:db8::1]:8443"
	Cookie        uint64 // the kernel's number: the same connection has the same, another never
	TCP           TCP
}

// LinkConnections finds the established connections between two addresses: "ADDRESS:PORT", "ADDRESS", ":PORT" or "" for any.
// For sockets that QEMU or another process owns. Linux; of the network namespace of the calling thread.
func LinkConnections(local, remote string) ([]Connection, error) {
	text := func(s string) *C.char {
		if s == "" {
			return nil
		}
		return C.CString(s)
	}
	l, r := text(local), text(remote)
	defer C.free(unsafe.Pointer(l))
	defer C.free(unsafe.Pointer(r))
	for room := 16; ; {
		var e C.struct_migbuf_error
		list := make([]C.struct_migbuf_link_connection, room)
		rc := C.migbuf_link_connections(l, r, &list[0], C.size_t(room), &e)
		if Code(rc) == ErrTooBig && uint64(e.need) > uint64(room) {
			room = int(e.need) + 16
			continue
		}
		if rc < 0 {
			return nil, failedWith("link_connections", rc, &e)
		}
		out := make([]Connection, rc)
		for i := range out {
			c := &list[i]
			out[i] = Connection{C.GoString(&c.local[0]), C.GoString(&c.remote[0]), uint64(c.cookie), *(*TCP)(unsafe.Pointer(&c.tcp))}
		}
		return out, nil
	}
}

// TCPFlow is one TCP connection over time. The zero value was not looked at yet.
type TCPFlow struct {
	flow   LinkFlow
	busyUs uint64
}

func (f *TCPFlow) c() *C.struct_migbuf_link_tcp_flow {
	return (*C.struct_migbuf_link_tcp_flow)(unsafe.Pointer(f))
}

// Reset forgets what was seen.
func (f *TCPFlow) Reset() { C.migbuf_link_tcp_flow_init(f.c()) }

// Update is what a connection carried since the last time, whether there is a rate, and whether it is a lower bound of what
// the link could carry, as it had nothing to send for a while.
func (f *TCPFlow) Update(now time.Duration, tcp TCP) (bytesPerS float64, ok, atLeast bool, err error) {
	var rate C.double
	var flags C.uint32_t
	rc := C.migbuf_link_tcp_update(f.c(), milliseconds(now), (*C.struct_migbuf_link_tcp)(unsafe.Pointer(&tcp)), &rate, &flags)
	return float64(rate), rc == 1, flags&C.MIGBUF_LINK_AT_LEAST != 0, failed("link_tcp_update", rc)
}

// LinkCard gives a network card's tx_bytes and its nominal speed, 0 where it does not tell. Linux.
func LinkCard(name string) (txBytes, speedBytesPerS uint64, err error) {
	var e C.struct_migbuf_error
	var tx, speed C.uint64_t
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	rc := C.migbuf_link_card(n, &tx, &speed, &e)
	return uint64(tx), uint64(speed), failedWith("link_card", rc, &e)
}
