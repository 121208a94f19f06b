/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_VERSION_H
#define MIGBUF_VERSION_H
/**
 * @file version.h
 * Which migbuf this is: the header's version at compile time, the library's at run time.
 *
 * Link with -lmigbuf.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MIGBUF_VERSION_MAJOR 0 /**< of this header */
#define MIGBUF_VERSION_MINOR 1 /**< of this header */
#define MIGBUF_VERSION_PATCH 0 /**< of this header */
/** One number to compare: major * 1'000'000 + minor * 1000 + patch. Example: 0.1.0 is 1000. */
#define MIGBUF_VERSION (MIGBUF_VERSION_MAJOR * 1000000 + MIGBUF_VERSION_MINOR * 1000 + MIGBUF_VERSION_PATCH)

/**
 * MIGBUF_VERSION of the library that is linked. Any thread.
 * Test: test_error, versions_agree
 */
MIGBUF_API int migbuf_version(void);

/**
 * The same as text, "0.1.0". Static storage. Any thread.
 * Test: test_error, versions_agree
 */
MIGBUF_API const char *migbuf_version_text(void);

#ifdef __cplusplus
}
#endif
#endif
