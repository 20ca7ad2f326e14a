/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Makes what an agent left the property of the one that is to come, which may run as another user: pins, and
 * the files of the run directory. For root, before it gives up its rights. Only what account_is_trusted()
 * owns is touched, by file descriptor, and nothing that has a second name elsewhere.
 */

#include <sys/types.h>

#define HANDOVER_GROUP_NONE ((gid_t)-1) /* leave the group as it is */

/*
 * The pins below MAPS_PIN_ROOT, and that directory; what is not named as ours are is left alone. With `uid` 0
 * directories pass `gid` on to what is made in them later. 0, also if there is nothing; or -errno.
 */
int handover_pins(uid_t uid, gid_t gid);

/* The files of the run directory, and itself; it is borrowed. 0 or -errno. */
int handover_run_directory(int directory, uid_t uid, gid_t gid);

/*
 * Makes MAPS_PIN_ROOT if need be, for `uid` and `gid`, and lets others search the BPF file system, which
 * systemd mounts for root alone: what is pinned there keeps its own modes. 0 or -errno.
 */
int handover_open_bpffs(uid_t uid, gid_t gid);
