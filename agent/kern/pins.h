/* SPDX-License-Identifier: MIT */
#pragma once
/* Where things are pinned, and safe opening of what is there. Root of all: MAPS_PIN_ROOT. */

#include <stdint.h>

#define PINS_MAPS_DIR MAPS_PIN_ROOT "/" MAPS_PIN_ABI_DIR
#define PIN_PATH_MAX 128

enum pin_kind {
	PIN_LINK,    /* link_IFINDEX: a TCX link */
	PIN_PROGRAM, /* prog_IFINDEX: the program in our clsact filter, which has no pin itself;
			prog_IFINDEX_new: its successor, for the time of a replacement */
};

/* Writes the path of an interface's pin. */
void pin_path(enum pin_kind kind, uint32_t ifindex, char ret[static PIN_PATH_MAX]);

/* Reads a pin's file name back. 0, or -ENOENT: not one of ours. */
int pin_parse(const char *name, enum pin_kind *ret_kind, uint32_t *ret_ifindex);

/* Makes one directory below bpffs, mode 0750; one that is there is fine. 0 or -errno. */
int pin_make_directory(const char *path);
