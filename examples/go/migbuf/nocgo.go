// SPDX-License-Identifier: MIT

//go:build !cgo

package migbuf

// Without cgo every other file of this package is left out, and Go would only say that there are none. It also leaves
// cgo out by itself where it finds no C compiler.
const _ uint = "migbuf needs cgo: CGO_ENABLED=1, a C compiler, pkg-config"
