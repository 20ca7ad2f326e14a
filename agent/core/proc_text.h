/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What /proc says about a process, as text: whom a link belongs to, and what to call the process. Pure.
 * The texts are the kernel's, but the names in them are chosen by others: each takes any bytes.
 */

#include <stdbool.h>
#include <stdint.h>

#define PROC_LABEL_MAX 128 /* bytes with the NUL; longer names are cut */

/*
 * The process behind the text of a symbolic link to a namespace of it: "/proc/123/ns/net", also
 * "/proc/123/task/124/ns/net", which is 124's. 0 or -EINVAL: the link leads elsewhere.
 */
int proc_parse_link(const char *text, uint32_t *ret_pid);

/*
 * A name for people from the text of /proc/PID/cgroup, cgroup v1 or v2: a container id, shortened as
 * its tools do ("docker-0123456789ab"), else a systemd unit ("game@1.service"). 0 or -ENOENT: there is
 * none, or only what holds a whole login.
 */
int proc_label_from_cgroup(const char *text, char ret[static PROC_LABEL_MAX]);

/* Likewise from the text of /proc/PID/comm: the command. */
int proc_label_from_comm(const char *text, char ret[static PROC_LABEL_MAX]);

/* Whether two texts of /proc/PID/uid_map say the same. An empty one belongs to nobody. */
bool proc_same_uid_map(const char *a, const char *b);
