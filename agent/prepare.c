/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/kern/entry_map.h"
#include "agent/kern/handover.h"
#include "agent/kern/map_dirs.h"
#include "agent/kern/pins.h"
#include "agent/kern/rights.h"
#include "agent/prepare.h"
#include "agent/util/account.h"
#include "agent/util/cleanup.h"
#include "agent/util/log.h"
#include "schema/maps.h"

/* What others put where our pins are is neither used nor overwritten, nor given to anybody. */
static int check_pins(void)
{
	struct pin_problem problem;
	int r;

	r = pins_check(&problem);
	if (r == 0)
		r = entry_maps_check(MAP_DIR, &problem);
	if (r == -EUCLEAN)
		log_error(
			"%s is not a pin of ours: %s; it is left alone: see who made it so, then mend or "
			"remove it",
			problem.path, problem.reason);
	return r == -EUCLEAN ? r : 0; /* anything else shows, with its reason, when it is used */
}

/* Root without CAP_DAC_OVERRIDE may do no more with the files of others than anybody. */
static void take_over(int run_dir)
{
	gid_t gid;
	int r;

	if (account_find_group(&gid) < 0)
		gid = HANDOVER_GROUP_NONE;
	/* Now, for the group to come with it; what hinders this shows when something is pinned. */
	if (gid != HANDOVER_GROUP_NONE)
		(void)pin_make_directory(MAPS_PIN_ROOT);
	r = handover_pins(0, gid);
	if (r == 0)
		r = handover_run_directory(run_dir, 0, gid);
	if (r < 0)
		log_warning("cannot take over what another agent left: %s; continuing anyway",
			strerror(-r));
}

/* The maps of an agent that runs as its own user are readable for its group, so a dry run joins that. */
static void join_group(void)
{
	_cleanup_free_ gid_t *groups = NULL;
	int n = getgroups(0, NULL);
	gid_t gid;

	if (n < 0 || account_find_group(&gid) < 0)
		return;
	groups = calloc((size_t)n + 1, sizeof(*groups));
	if (!groups || getgroups(n, groups) != n)
		return;
	groups[n] = gid;
	(void)setgroups((size_t)n + 1, groups);
}

int prepare_rights(int run_dir)
{
	bool dry_run = run_dir < 0;
	char text[RIGHTS_TEXT_MAX];
	int r;

	r = dry_run ? 0 : check_pins();
	if (r < 0)
		return r;
	if (geteuid() == 0 && dry_run)
		join_group();
	else if (geteuid() == 0)
		take_over(run_dir);
	r = rights_drop(text, sizeof(text));
	if (r < 0) {
		log_error("cannot give up capabilities: %s", text);
		return r;
	}
	r = rights_check(dry_run, text, sizeof(text));
	if (r < 0)
		log_error("it lacks %s: start it as root, or by its unit (AmbientCapabilities=)",
			text);
	return r;
}

int prepare_for_account(int run_dir)
{
	struct account account;
	int r;

	r = account_find(&account);
	if (r < 0) {
		log_error("cannot find user and group " ACCOUNT_NAME
			  ": %s; \"systemd-sysusers\" makes them",
			r == -ENOENT ? "there are none" : strerror(-r));
		return r;
	}
	r = check_pins();
	if (r < 0)
		return r;
	r = handover_pins(account.uid, account.gid);
	if (r == 0)
		r = handover_run_directory(run_dir, account.uid, account.gid);
	if (r == 0)
		r = handover_open_bpffs(account.uid, account.gid);
	if (r < 0)
		log_error("cannot hand over to user " ACCOUNT_NAME ": %s%s", strerror(-r),
			r == -EPERM ? " (it must be root)" : "");
	return r;
}
