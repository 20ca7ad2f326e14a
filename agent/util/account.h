/* SPDX-License-Identifier: MIT */
#pragma once
/* The system user that the service unit runs the agent as, and whom its files may belong to. */

#include <stdbool.h>
#include <sys/types.h>

#define ACCOUNT_NAME                                                                               \
	"ipipdirect" /* tools/ipipdirect.sysusers makes it, tools/ipipdirect.service.in uses it */

struct account {
	uid_t uid;
	gid_t gid; /* of the group of the same name; its members may read */
};

/* 0 or -errno; -ENOENT: this host has no such user or group. */
int account_find(struct account *ret);

/* The group alone: its members may read what root's agent does, also where nobody made the user. */
int account_find_group(gid_t *ret);

/* Whether we take over what belongs to this user: root's, our own, and that of the agent's user. */
bool account_is_trusted(uid_t uid);
