/* SPDX-License-Identifier: MIT */
#pragma once
/* Where things are pinned, and safe opening of what is there. Root of all: MAPS_PIN_ROOT. */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define PINS_MAPS_DIR MAPS_PIN_ROOT "/" MAPS_PIN_ABI_DIR
#define PIN_PATH_MAX 128

/* The group of a directory, to which the kernel gives what is made in it, may read. */
#define PIN_DIRECTORY_MODE 0750
#define PIN_MODE 0640

enum pin_kind {
	PIN_LINK,    /* link_IFINDEX: a TCX link */
	PIN_PROGRAM, /* prog_IFINDEX: the program in our clsact filter, which has no pin itself;
			prog_IFINDEX_new: its successor, for the time of a replacement */
	PIN_JUMPS,   /* jumps_ID: what joins the parts of one loaded program; ID is the map's */
};

/* Writes the path of a pin; `number` is an interface index, or a map's id. */
void pin_path(enum pin_kind kind, uint32_t number, char ret[static PIN_PATH_MAX]);

/* Reads a pin's file name back. 0, or -ENOENT: not one of ours. */
int pin_parse(const char *name, enum pin_kind *ret_kind, uint32_t *ret_number);

enum pin_object {
	PIN_OBJECT_MAP,
	PIN_OBJECT_PROGRAM,
	PIN_OBJECT_LINK,
};

/*
 * Opens a pin and makes sure what it is: bpf(2) gives a descriptor of whatever lies there, and answers
 * questions about a map in terms that could be those of a link. 0 or -errno; -EMEDIUMTYPE: another
 * kind of object, or a symbolic link.
 */
int pin_open(const char *path, enum pin_object object, bool read_only, int *ret_fd);

/* A pin or directory that cannot be taken for ours. */
struct pin_problem {
	char path[PIN_PATH_MAX + NAME_MAX];
	char reason[96];
};

/*
 * Whether a directory is one in which only those that account_is_trusted() can have put anything. 0, also
 * if it is not there; -EUCLEAN: no, and why; or -errno.
 */
int pin_check_directory(const char *path, struct pin_problem *ret);

/* The same for a pin. */
int pin_check(const char *path, enum pin_object object, struct pin_problem *ret);

/* The same for all of MAPS_PIN_ROOT but the maps, for which see entry_maps_check(). */
int pins_check(struct pin_problem *ret);

/* Fills in a problem; returns -EUCLEAN. */
__attribute__((format(printf, 3, 4))) int pin_problem(
	struct pin_problem *ret, const char *path, const char *format, ...);

/* Pins an object, readable for the group. 0 or -errno. */
int pin_object(int fd, const char *path);

/* Makes one of our own pins, which the kernel makes with mode 0600, readable for the group. 0 or -errno. */
int pin_share(const char *path);

/* Makes one directory below bpffs, mode 0750; one that is there is fine. 0 or -errno. */
int pin_make_directory(const char *path);
