/* SPDX-License-Identifier: MIT */
/* A life of the model in ../test_ram_model.c, with its promises; its choices are the bytes of the input. */
#define MIGBUF_FUZZ
#include "../test_ram_model.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    draw_from = (struct choices){ data, data + size };
    live(size);
    return 0;
}
