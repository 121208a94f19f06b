// SPDX-License-Identifier: MIT

//go:build cgo

package migbuf

import "strings"

// LXDProcessed reads a counter of bytes as LXD and Incus write it in an operation's metadata, with a description before it or
// without one: "vm1: 1.20GB (110.00MB/s)". For a host beside the server: the server itself has the number. Errors: ErrProtocol
// for a text without a counter ("vm1: 45% (…)"), ErrRange beyond 2^62.
func LXDProcessed(text string) (uint64, error) {
	wrong := func(code Code) (uint64, error) { return 0, &Error{Op: "lxd_processed", Code: code} }
	text = text[strings.LastIndex(": "+text, ": "):] // behind the description, or all of it
	counter, rest, behind := strings.Cut(text, " ")
	if behind && !strings.HasPrefix(rest, "(") { // "3MB remaining" is no counter
		return wrong(ErrProtocol)
	}
	number := counter[:len(counter)-len(strings.TrimLeft(counter, "0123456789."))]
	whole, part, _ := strings.Cut(number, ".")
	factor := unitOf(counter[len(number):])
	if whole+part == "" || strings.Contains(part, ".") || factor == 0 {
		return wrong(ErrProtocol)
	}
	value, place := 0.0, 1.0
	for _, digit := range whole {
		value = 10*value + float64(digit-'0')
	}
	for _, digit := range part {
		place /= 10
		value += float64(digit-'0') * place
	}
	value = value*factor + 1e-3 // 1.1 kB is 1100, not 1099.99…
	if value > float64(BytesMax) {
		return wrong(ErrRange)
	}
	return uint64(value), nil
}

// unitOf is the factor of "", "B", "kB", "MiB", …, and 0 for anything else.
func unitOf(unit string) float64 {
	prefix, base := strings.TrimSuffix(unit, "B"), 1000.0
	switch {
	case unit == "" || unit == "B":
		return 1
	case prefix == unit:
		return 0
	case strings.HasSuffix(prefix, "i"):
		prefix, base = strings.TrimSuffix(prefix, "i"), 1024
	}
	factor := 1.0
	for _, letter := range []string{"k", "M", "G", "T", "P", "E"} {
		factor *= base
		if prefix == letter || prefix == "K" && letter == "k" {
			return factor
		}
	}
	return 0
}
