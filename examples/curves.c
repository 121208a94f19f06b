/* SPDX-License-Identifier: MIT */
/* curves: prints the picture of the paper's throttle curves, drawn by the library's own functions, as SVG. */
#include "evacuate/svg.h"
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: curves > curves.svg\n"
    "\n"
    "Prints an SVG of the rate at which a guest may write while its bin of the buffer fills up:\n"
    "a bin of 100 MB, a link share of 10 MB/s, priorities 1, 1.5, 2 and 3, and what the formula\n"
    "does beyond a full bin when it is taken literally.\n"
    "\n"
    "  -h, --help  this text\n";

int main(int argc, char **argv)
{
    if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
        return fputs(usage, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    if (argc > 1) {
        fputs(usage, stderr);
        return 2;
    }
    if (svg_curves(stdout) || fflush(stdout)) {
        perror("curves");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
