/* SPDX-License-Identifier: MIT */
#pragma once
/* Calls to the running agent, over its control socket. schema/io.ipipdirect.varlink */

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "tools/ctl/ctl.h"

struct varlink {
	int fd;
	char *in; /* what came, messages and parts of them */
	size_t n_in, size;
};

#define VARLINK_NONE ((struct varlink){ .fd = -1 })

/* These return CTL_OK or what ctl_fail() did. */

int varlink_open(const struct ctl *ctl, struct varlink *ret);
void varlink_done(struct varlink *varlink);

/* Calls a method of io.ipipdirect and waits for its one answer. The reference to `parameters` is taken. */
int varlink_call(const struct ctl *ctl, struct varlink *varlink, const char *method,
	json_t *parameters, json_t **ret);

/* Calls with "more"; the answers are read one by one. */
int varlink_observe(const struct ctl *ctl, struct varlink *varlink, const char *method);

/*
 * The next answer, waited for without end. `mask`: signals that are blocked but while it waits; *ret is
 * NULL when one came.
 */
int varlink_next(
	const struct ctl *ctl, struct varlink *varlink, const sigset_t *mask, json_t **ret);
