/* SPDX-License-Identifier: MIT */
/* lxd_names: what LXD and Incus call a device of a VM in its QEMU. Values in, values out; asks nobody. */
#include "memory.h"
#include "migbuf/lxd.h"
#include "text.h"
#include <string.h>

/* Room for QEMU's node name (31 bytes) behind the servers' prefixes. LXD: qemuDeviceNameMaxLength - len("lxd_"); Incus:
 * blockNodeName says 25. */
#define LXD_PLAIN_BYTES 27
#define INCUS_PLAIN_BYTES 25

/* ---- SHA-256 (FIPS 180-4), of at most 255 bytes. It names a node and guards nothing: no library for that alone. ---- */

static uint32_t rotate(uint32_t x, int by)
{
    return x >> by | x << (32 - by);
}

static void digest_block(uint32_t h[8], const unsigned char *block)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    };
    uint32_t w[64], v[8];

    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
               block[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
               (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(v, h, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t a = v[7] + (rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) +
                     k[i] + w[i];
        uint32_t b = (rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22)) +
                     ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += a;
        v[0] = a + b;
    }
    for (int i = 0; i < 8; i++)
        h[i] += v[i];
}

static void digest(const char *text, unsigned char out[32])
{
    uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    unsigned char padded[320] = { 0 };
    size_t bytes = strlen(text), end = (bytes + 8) / 64 * 64 + 64;

    memcpy(padded, text, bytes);
    padded[bytes] = 0x80;
    padded[end - 2] = (unsigned char)(bytes * 8 >> 8);
    padded[end - 1] = (unsigned char)(bytes * 8);
    for (size_t at = 0; at < end; at += 64)
        digest_block(h, padded + at);
    for (size_t i = 0; i < 32; i++)
        out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

/* ---- names ---- */

/* PathNameEncode of both: "-" becomes "--", then "/" becomes "-". */
static void encode(const char *device, char out[2 * MIGBUF_LXD_NAME])
{
    for (; *device; device++) {
        if (*device == '-')
            *out++ = '-';
        *out++ = *device == '/' ? '-' : *device;
    }
    *out = 0;
}

/* Longer than `most`: so many characters of its digest in base64url instead (qemuDeviceNameOrID, hashValue). */
static void shorten(char *name, size_t most)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char d[32 + 1] = { 0 };

    if (strlen(name) <= most)
        return;
    digest(name, d);
    for (size_t i = 0; i < most; i++) { /* six bits each */
        size_t at = 6 * i / 8, shift = 10 - 6 * i % 8;

        name[i] = letters[((unsigned)d[at] << 8 | d[at + 1]) >> shift & 63];
    }
    name[most] = 0;
}

#define WRITE(field, ...) migbuf__write(&(struct migbuf__writer){ field, sizeof(field), 0 }, __VA_ARGS__)

int migbuf_lxd_names(int32_t kind, const char *device, struct migbuf_lxd_names *names)
{
    const char *prefix = kind == MIGBUF_LXD_INCUS ? "incus_" : "lxd_";
    struct migbuf_lxd_names n = { .node = "" };
    char name[2 * MIGBUF_LXD_NAME];

    if ((kind != MIGBUF_LXD_LXD && kind != MIGBUF_LXD_INCUS) || !device || !*device || !names)
        return MIGBUF_E_INVALID;
    if (strlen(device) >= MIGBUF_LXD_NAME)
        return MIGBUF_E_TOO_BIG;
    encode(device, name);
    WRITE(n.device, "dev-%s%s", prefix, name);
    WRITE(n.backend, "/machine/peripheral/%s/virtio-backend", n.device);
    shorten(name, kind == MIGBUF_LXD_INCUS ? INCUS_PLAIN_BYTES : LXD_PLAIN_BYTES);
    WRITE(n.node, "%s%s", prefix, name);
    if (kind == MIGBUF_LXD_INCUS) {
        WRITE(n.overlay, "%s_snap", n.node);
        WRITE(n.target, "%s_nbd", n.node);
    } else if (!strcmp(device, "root")) {
        WRITE(n.overlay, "%s_snapshot", n.node);
        WRITE(n.target, "%s_nbd", n.node);
    }
    *names = n;
    return 0;
}
