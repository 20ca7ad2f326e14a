/* SPDX-License-Identifier: MIT */
#pragma once
/* The command line of ipipdirectd. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options {
	const char *config_path; /* NULL: the default path, which need not exist */
	char **interfaces;       /* each points into argv */
	size_t n_interfaces;
	uint32_t resync_interval_s; /* 0: as configured */
	int log_level;
	bool once;
	bool dry_run;
	bool prepare; /* for the agent's user, then exit */
};

/*
 * 0: run; 1: everything was said (--help, --version); -EINVAL: wrong usage, said on stderr; -ENOMEM.
 */
int options_parse(int argc, char **argv, struct options *ret);
void options_done(struct options *options);
