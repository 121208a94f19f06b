// SPDX-License-Identifier: MIT

package migbuf

// #include <stdlib.h>
// #include <migbuf/migbuf.h>
import "C"

import (
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// LinkLeast is what [Link.Mean] gives at least, in bytes/s: nothing is planned with less.
const LinkLeast float64 = C.MIGBUF_LINK_LEAST

// Link holds what is known of a link's speed. The zero value knows nothing, as [NewLink] of 0.
//
// A link that carried nothing is not a slow link: a sample of 0 never lowers its speed. What its sender limited is a lower
// bound. Samples that say nothing let the speed return, in a minute, to the best that is known.
type Link struct {
	latest, mean, best float64
	atMs               uint64
}

// NewLink knows nothing; nominal > 0 (bytes/s, a card's speed) is taken until something was measured. Errors: ErrRange,
// ErrInvalid.
func NewLink(nominalBytesPerS float64) (Link, error) {
	var l Link
	rc := C.migbuf_link_init(l.c(), C.double(nominalBytesPerS))
	return l, failed("link_init", rc)
}

func (l *Link) c() *C.struct_migbuf_link { return (*C.struct_migbuf_link)(unsafe.Pointer(l)) }

// Update takes a sample of what the link carried since the last one; atLeast: its sender was the limit, not the link. It
// tells whether the sample counted. Errors: ErrClock when now is before the last sample, ErrRange, ErrInvalid.
func (l *Link) Update(now time.Duration, bytesPerS float64, atLeast bool) (bool, error) {
	ms, ok := milliseconds(now)
	if !ok {
		return false, badTime("link_update")
	}
	var flags C.uint32_t
	if atLeast {
		flags = C.MIGBUF_LINK_AT_LEAST
	}
	rc := C.migbuf_link_update(l.c(), ms, C.double(bytesPerS), flags)
	return rc == 1, failed("link_update", rc)
}

// Now is the last sample, held, bytes/s; 0 when nothing is known. For [Buffer.Link].
func (l *Link) Now() float64 { return float64(C.migbuf_link_now(l.c())) }

// Mean is the mean of the last minute, for planning, bytes/s; at least LinkLeast.
func (l *Link) Mean() float64 { return float64(C.migbuf_link_mean(l.c())) }

// LinkFlow is one counter of bytes that rises. The zero value was not looked at yet.
type LinkFlow struct {
	atMs, bytes     uint64
	known, reserved uint32
}

// Reset forgets what was seen.
func (f *LinkFlow) Reset() { C.migbuf_link_flow_init((*C.struct_migbuf_link_flow)(unsafe.Pointer(f))) }

// Update says where the counter stands. It gives the rate since the last time, and whether there is one: not the first
// time, less than 50 ms after the last, or when the counter went down. Errors: ErrClock, ErrRange.
func (f *LinkFlow) Update(now time.Duration, bytes uint64) (bytesPerS float64, ok bool, err error) {
	ms, ok := milliseconds(now)
	if !ok {
		return 0, false, badTime("link_flow_update")
	}
	var rate C.double
	rc := C.migbuf_link_flow_update((*C.struct_migbuf_link_flow)(unsafe.Pointer(f)), ms, C.uint64_t(bytes), &rate)
	return float64(rate), rc == 1, failed("link_flow_update", rc)
}

// TCP is what the kernel knows about a connection.
type TCP struct {
	AckedBytes        uint64 // a counter for LinkFlow.Update
	DeliveryBytesPerS uint64 // the kernel's own estimate, of the last flight of segments
	UnsentBytes       uint64 // > 0: the link, not the sender, is the limit
	BusyUs            uint64 // how long it has had something to send, since it exists, us
	flags, reserved   uint32
}

// AtLeast tells whether the sender was slower than the connection.
func (t *TCP) AtLeast() bool { return t.flags&C.MIGBUF_LINK_AT_LEAST != 0 }

// control calls f with the descriptor of a file or connection, which stays its own all the while.
func control(op string, c syscall.Conn, f func(fd uintptr)) error {
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(f)
	}
	if err != nil {
		return &Error{Op: op, Code: ErrInvalid, Text: "it is not open", Cause: err}
	}
	return nil
}

// onDescriptor is the same for a function of the library.
func onDescriptor(op string, c syscall.Conn, f func(fd C.int, e *C.struct_migbuf_error) C.int) error {
	var detail C.struct_migbuf_error
	var rc C.int
	if err := control(op, c, func(fd uintptr) { rc = f(C.int(fd), &detail) }); err != nil {
		return err
	}
	return failedWith(op, rc, &detail)
}

// LinkTCP asks the kernel about a connection, a *net.TCPConn for one; of a multipath connection it is the sum of its subflows,
// which falls when one leaves. Linux. Errors: ErrSystem, ErrUnsupported (no TCP, a
// kernel before 4.10), ErrInvalid for one that is closed.
func LinkTCP(conn syscall.Conn) (TCP, error) {
	var t TCP
	err := onDescriptor("link_tcp", conn, func(fd C.int, e *C.struct_migbuf_error) C.int {
		return C.migbuf_link_tcp(fd, (*C.struct_migbuf_link_tcp)(unsafe.Pointer(&t)), e)
	})
	return t, err
}

// Connection is a TCP connection of this machine, whoever owns it.
type Connection struct {
	Local  string // "10.0.0.1:44321", "[2001:db8::1]:8443"
	Remote string // the other side's
	Cookie uint64 // the kernel's number: the same connection has the same, another never
	TCP    TCP    // what the kernel knows about it
}

// LinkConnections finds the established connections between two addresses: "ADDRESS:PORT", "ADDRESS", ":PORT" or "" for any.
// A link-local address may have its interface, "fe80::1%eth0"; each subflow of a multipath connection is one of its own. For
// sockets that QEMU or another process owns. Linux; of the network namespace of the calling thread. Errors: ErrInvalid
// for an address that is none, ErrSystem, ErrTimeout, ErrUnsupported.
func LinkConnections(local, remote string) ([]Connection, error) {
	if strings.IndexByte(local+remote, 0) >= 0 {
		return nil, &Error{Op: "link_connections", Code: ErrInvalid, Text: "there is a zero byte in an address"}
	}
	orAny := func(s string) *C.char {
		if s == "" {
			return nil
		}
		return C.CString(s)
	}
	l, r := orAny(local), orAny(remote)
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
// the link could carry, as it had nothing to send for a while. Errors: ErrClock, ErrRange.
func (f *TCPFlow) Update(now time.Duration, tcp TCP) (bytesPerS float64, ok, atLeast bool, err error) {
	ms, ok := milliseconds(now)
	if !ok {
		return 0, false, false, badTime("link_tcp_update")
	}
	var rate C.double
	var flags C.uint32_t
	rc := C.migbuf_link_tcp_update(f.c(), ms, (*C.struct_migbuf_link_tcp)(unsafe.Pointer(&tcp)), &rate, &flags)
	return float64(rate), rc == 1, flags&C.MIGBUF_LINK_AT_LEAST != 0, failed("link_tcp_update", rc)
}

// LinkCard gives a network card's tx_bytes, and its nominal speed in bytes/s, 0 where it does not tell. Linux. Errors:
// ErrInvalid for a name that is none, ErrNotFound, ErrSystem, ErrUnsupported.
func LinkCard(name string) (txBytes, speedBytesPerS uint64, err error) {
	var e C.struct_migbuf_error
	var tx, speed C.uint64_t
	err = withText("link_card", name, func(n *C.char) C.int { return C.migbuf_link_card(n, &tx, &speed, &e) })
	if detail, ok := err.(*Error); ok && e.text != nil {
		err = failedWith(detail.Op, C.int(detail.Code), &e)
	}
	return uint64(tx), uint64(speed), err
}
