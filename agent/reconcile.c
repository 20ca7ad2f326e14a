/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/changes.h"
#include "agent/held_file.h"
#include "agent/kern/map_dirs.h"
#include "agent/kern/rights.h"
#include "agent/kern/strip.h"
#include "agent/reconcile.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/clock.h"
#include "agent/util/error.h"
#include "agent/util/log.h"

#define TAKEOVER_MAX_USEC (30 * USEC_PER_SEC)

static void log_load_error(int r)
{
	char reason[256];

	rights_explain(r, reason, sizeof(reason));
	log_error("cannot load the BPF program and its maps: %s%s%s%s", strerror(-r),
		reason[0] ? " (" : "", reason, reason[0] ? ")" : "");
}

static int open_program(const struct reconciler *reconciler, struct dataplane **ret_dataplane,
	struct entry_maps *ret_maps)
{
	struct dataplane *dataplane;
	int r;

	r = dataplane_load(reconciler->config->max_entries, reconciler->strip_flags, &dataplane);
	if (r < 0) {
		if (!reconciler->load_has_failed)
			log_load_error(r);
		return r;
	}
	r = entry_maps_open(dataplane_directory(dataplane), false, ret_maps);
	if (r < 0) {
		if (!reconciler->load_has_failed)
			log_error("cannot open the pinned maps: %s", strerror(-r));
		dataplane_free(dataplane);
		return r;
	}
	*ret_dataplane = dataplane;
	return 0;
}

/*
 * Loads a program with maps as the configuration wants them. If other maps are in use, both go on until
 * this program has taken the place of the other.
 */
static int load_program(struct reconciler *reconciler)
{
	_cleanup_(entry_maps_done) struct entry_maps maps = ENTRY_MAPS_NONE,
						     former = ENTRY_MAPS_NONE;
	struct dataplane *dataplane;
	int r;

	r = open_program(reconciler, &dataplane, &maps);
	if (r < 0) {
		/* As long as they are pinned, maps that were made in part take memory. */
		(void)map_dirs_remove_next();
		return r;
	}
	/* Those of another ABI are another matter: their counters are not carried over. */
	if (dataplane_is_beside(dataplane))
		(void)entry_maps_open(MAP_DIR, true, &former);
	maps.front = dataplane_tables(dataplane)->front;
	dataplane_free(
		reconciler->dataplane); /* what it attached stays, as after an agent's death */
	reconciler->dataplane = dataplane;
	interfaces_replace_program(&reconciler->interfaces, dataplane);
	entry_maps_done(&reconciler->maps);
	reconciler->maps = maps;
	maps = ENTRY_MAPS_NONE;
	entry_maps_done(&reconciler->former);
	reconciler->former = former;
	former = ENTRY_MAPS_NONE;
	reconciler->have_is_valid = false;
	reconciler->clients_are_stale = true;
	reconciler->pins_are_doubtful = false;
	reconciler->pins_are_missing = false;
	reconciler->loaded_usec = monotonic_usec();
	return 0;
}

int reconciler_init(struct reconciler *reconciler, const struct config *config, int run_dir)
{
	uint64_t flags = strip_flags();
	bool dry_run = run_dir < 0;
	int r;

	*reconciler = (struct reconciler){
		.config = config,
		.observer = OBSERVER_NONE,
		.strip_flags = flags,
		.maps = ENTRY_MAPS_NONE,
		.former = ENTRY_MAPS_NONE,
		.interfaces = {
			.config = config,
			.guard = { run_dir, strip_clears_mark(flags) },
			.stale = true,
		},
		.clients_are_stale = true,
		.started_at = time(NULL),
		.pid = getpid(),
		.config_loaded_at = time(NULL),
	};
	r = rtnl_open(&reconciler->rtnl);
	if (r < 0) {
		log_error("cannot open a netlink socket: %s", strerror(-r));
		return r;
	}
	reconciler->interfaces.rtnl = reconciler->rtnl;
	reconciler->interfaces.upkeep.rtnl = reconciler->rtnl;
	observer_init(&reconciler->observer, reconciler->rtnl);
	if (!dry_run)
		return load_program(reconciler);
	r = entry_maps_open(MAP_DIR, true, &reconciler->maps);
	if (r < 0 && r != -ENOENT) {
		log_error("cannot open the pinned maps: %s", strerror(-r));
		return r;
	}
	return 0;
}

void reconciler_done(struct reconciler *reconciler)
{
	observer_done(&reconciler->observer);
	once_held_done(&reconciler->once_held);
	tunnels_done(&reconciler->tunnels);
	rows_done(&reconciler->have);
	plan_done(&reconciler->plan);
	entry_maps_done(&reconciler->maps);
	entry_maps_done(&reconciler->former);
	dataplane_free(reconciler->dataplane);
	rtnl_close(reconciler->rtnl);
	interfaces_done(&reconciler->interfaces);
	*reconciler = RECONCILER_NONE;
}

uint64_t reconciler_ring(struct reconciler *reconciler, const struct bell *bell)
{
	bool minds = interfaces_ring(&reconciler->interfaces, bell);

	if (observer_ring(&reconciler->observer, bell))
		return 0;
	if (bell->tc_changed || bell->own_overrun)
		return minds ? 0 : UINT64_MAX;
	return minds ? interfaces_wait(&reconciler->interfaces) : UINT64_MAX;
}

/*
 * Another program is attached, with maps of its own: it must not be replaced by one that does not know
 * all tunnels yet. But nobody keeps its maps true any more, so not for ever: after a while, packets of
 * what cannot be read take the tunnel. In microseconds; 0: it may be replaced.
 */
static uint64_t takeover_wait(const struct reconciler *reconciler)
{
	uint64_t end = reconciler->loaded_usec + TAKEOVER_MAX_USEC, now = monotonic_usec();

	if (!reconciler->dataplane || !dataplane_must_wait(reconciler->dataplane) ||
		reconciler->interfaces.placement.detached ||
		(!reconciler->clients_are_missing &&
			tunnels_are_known(&reconciler->observer.snapshot, reconciler->config)))
		return 0;
	return end > now ? end - now : 0;
}

bool reconciler_has_size(const struct reconciler *reconciler)
{
	return reconciler->config->max_entries == reconciler->maps.max_rows;
}

/* Maps that are still beside others, whose place they shall take, are in the place where new ones are made. */
static bool resize_is_due(const struct reconciler *reconciler)
{
	return !reconciler_has_size(reconciler) && !reconciler->load_was_refused &&
	       !dataplane_is_beside(reconciler->dataplane);
}

uint64_t reconciler_wait(const struct reconciler *reconciler)
{
	uint64_t wait;

	if (reconciler->room_was_freed ||
		(resize_is_due(reconciler) && !reconciler->load_has_failed))
		return 0;
	wait = takeover_wait(reconciler);
	if (wait > 0)
		return wait;
	/* What failed is tried again ever more rarely, not as soon as it may be. */
	if (reconciler->has_failed || !reconciler->interfaces.stale)
		return UINT64_MAX;
	return interfaces_wait(&reconciler->interfaces);
}

void reconciler_ring_list(struct reconciler *reconciler)
{
	observer_ring_list(&reconciler->observer);
}

void reconciler_ring_all(struct reconciler *reconciler)
{
	observer_ring_all(&reconciler->observer);
	reconciler->interfaces.stale = reconciler->interfaces.untold = true;
	reconciler->clients_are_stale = true;
	reconciler->have_is_valid = false;
	reconciler->load_was_refused = reconciler->load_has_failed = false;
}

void reconciler_ring_at_once(struct reconciler *reconciler)
{
	reconciler_ring_all(reconciler);
	reconciler->interfaces.read_again = 0;
	reconciler->observer.scan_not_before = 0;
}

void reconciler_place(struct reconciler *reconciler, const struct placement *placement)
{
	interfaces_place(&reconciler->interfaces, placement);
	reconciler->pins_are_doubtful = true;
	reconciler->load_was_refused = reconciler->load_has_failed = false;
}

static int read_have(struct reconciler *reconciler)
{
	struct rows rows;
	int r;

	if (reconciler->have_is_valid || reconciler->maps.remotes < 0)
		return 0;
	r = entry_maps_read(&reconciler->maps, &rows);
	if (r < 0)
		return r;
	rows_done(&reconciler->have);
	reconciler->have = rows;
	reconciler->have_is_valid = true;
	/* Nothing to do but after a start, or when somebody else wrote the maps. */
	front_sync(&reconciler->maps.front, &reconciler->have);
	return 0;
}

/* Before anything is decided by it, for the agent that comes after a kill. */
static int note_held(struct reconciler *reconciler)
{
	struct once_held *once_held = &reconciler->once_held;
	int r = tunnels_note_held(&reconciler->observer.snapshot, once_held);
	bool failed_before = reconciler->holding_has_failed;

	if (r < 0 || !reconciler->dataplane) /* a dry run writes nothing */
		return r;
	r = held_store(reconciler->interfaces.guard.directory, once_held);
	reconciler->holding_has_failed = r < 0;
	if (r < 0 && !failed_before)
		log_warning("cannot write " HELD_FILE
			    ": %s; the next agent will not know the host's former addresses",
			strerror(-r));
	return 0;
}

/* Tunnels → desired → plan. */
static int make_plan(struct reconciler *reconciler, struct rows *ret_desired)
{
	struct plan_limits limits = {
		.max_rows = reconciler->maps.remotes < 0 ? reconciler->config->max_entries
							 : reconciler->maps.max_rows,
		.complete = tunnels_are_known(&reconciler->observer.snapshot, reconciler->config),
	};
	_cleanup_(tunnels_done) struct tunnels tunnels = { 0 };
	_cleanup_(rows_done) struct rows desired = { 0 }, former = { 0 };
	struct present present = { &reconciler->have, limits.complete };
	struct plan plan;
	int r;

	limits.max_slots = 2 * limits.max_rows + 1;
	/* Maps that are to take the place of others take over who was first, too. */
	if (reconciler->former.remotes >= 0) {
		r = entry_maps_read(&reconciler->former, &former);
		if (r < 0)
			return r;
		present.rows = &former;
	}
	r = note_held(reconciler);
	if (r < 0)
		return r;
	r = tunnels_make(&reconciler->observer.snapshot, reconciler->config, reconciler->overrides,
		&reconciler->once_held, &tunnels);
	if (r < 0)
		return r;
	r = desired_make(&tunnels, &present, &desired);
	if (r < 0)
		return r;
	r = plan_make(&desired, &reconciler->have, &limits, &plan);
	if (r < 0)
		return r;
	plan_done(&reconciler->plan);
	reconciler->plan = plan;
	tunnels_done(&reconciler->tunnels);
	reconciler->tunnels = tunnels;
	tunnels = (struct tunnels){ 0 };
	*ret_desired = desired;
	desired = (struct rows){ 0 };
	return 0;
}

static const char *row_name(const struct row *row, char buf[static 64])
{
	if (row->map == ROW_REMOTES)
		(void)snprintf(buf, 64, "remote %s", IP4_FORMAT(row->remote));
	else
		(void)snprintf(buf, 64, "remote %s inner source %s", IP4_FORMAT(row->remote),
			IP4_FORMAT(row->inner_source));
	return buf;
}

static const char *which_packets(const struct maps_entry *entry)
{
	if (entry->flags & MAPS_FLAG_OWN_SOURCE)
		return " from that source";
	return entry->flags & MAPS_FLAG_PRIVATE_SOURCE ? " from private sources" : "";
}

/* "add remote 203.0.113.1 -> 203.0.113.1, direct (netns game1, tun0)" */
static void describe(
	const struct plan_op *op, const struct tunnels *tunnels, char *buf, size_t size)
{
	char key[64], what[96] = "", whose[128] = "";
	const struct maps_entry *entry = &op->row.entry;

	if (op->verb != PLAN_REMOVE && (entry->flags & MAPS_FLAG_SHARED))
		(void)snprintf(what, sizeof(what), " shared, by inner source");
	else if (op->verb != PLAN_REMOVE)
		(void)snprintf(what, sizeof(what), " -> %s%s, %s",
			IP4_FORMAT(((struct ip4){ entry->game_server_ip })), which_packets(entry),
			maps_mode_name((enum maps_mode)entry->mode));
	if (op->verb != PLAN_REMOVE && op->row.tunnel < tunnels->n) {
		const struct tunnel *tunnel = &tunnels->list[op->row.tunnel];

		(void)snprintf(whose, sizeof(whose), " (netns %s, %s)", netns_label(tunnel->netns),
			tunnel->link->name);
	}
	(void)snprintf(buf, size, "%s %s%s%s", plan_verb_name(op->verb), row_name(&op->row, key),
		what, whose);
}

static void log_op(
	const struct reconciler *reconciler, const struct plan_op *op, const char *text, int r)
{
	const struct tunnels *tunnels = &reconciler->tunnels;
	const struct tunnel *tunnel = op->verb != PLAN_REMOVE && op->row.tunnel < tunnels->n
					      ? &tunnels->list[op->row.tunnel]
					      : NULL;
	const char *netns = tunnel ? netns_label(tunnel->netns) : NULL;
	const char *ifname = tunnel ? tunnel->link->name : NULL;

	if (r < 0)
		log_about(LOG_ERR,
			&(const struct log_about){ .id = LOG_ID_ROW_FAILED,
				.netns = netns,
				.ifname = ifname,
				.remote = IP4_FORMAT(op->row.remote),
				.reason = strerror(-r) },
			"cannot %s: %s; continuing anyway", text, strerror(-r));
	else
		log_about(LOG_INFO,
			&(const struct log_about){ .netns = netns,
				.ifname = ifname,
				.remote = IP4_FORMAT(op->row.remote) },
			"%s", text);
}

/*
 * Nobody else writes the maps, so what a plan did need not be read back: with thousands of rows that is most
 * of a pass. The full pass reads them all the same.
 */
static int note_outcome(struct reconciler *reconciler)
{
	struct rows rows;
	int r;

	r = plan_outcome(&reconciler->have, &reconciler->plan, &rows);
	if (r < 0)
		return r;
	rows_done(&reconciler->have);
	reconciler->have = rows;
	return 0;
}

static bool must_hold_back(const struct reconciler *reconciler)
{
	return reconciler->clients_are_missing || reconciler->observer.snapshot.is_doubtful;
}

/* An operation that fails leaves the others to go on, but for those that would make something wrong then. */
static int apply(struct reconciler *reconciler)
{
	bool holds_back = must_hold_back(reconciler);
	int result = 0;

	for (size_t i = 0; i < reconciler->plan.n_ops; i++) {
		struct plan_op *op = &reconciler->plan.ops[i];
		char text[320];
		int r;

		if (op->left_out || (holds_back && !plan_hold_back(op)))
			continue;
		r = entry_maps_apply(&reconciler->maps, op);
		describe(op, &reconciler->tunnels, text, sizeof(text));
		log_op(reconciler, op, text, r);
		if (r < 0) {
			plan_op_failed(&reconciler->plan, i);
			reconciler->pass_error = r;
			result = -EAGAIN;
		}
	}
	if (result == 0 && reconciler->plan.n_ops > 0 && !holds_back)
		result = note_outcome(reconciler);
	if (result < 0 || holds_back)
		reconciler->have_is_valid = false;
	return result;
}

static int plan_clients(
	const struct reconciler *reconciler, bool rows_are_written, struct client_plan *ret)
{
	const struct clients wanted = { reconciler->config->exempt_clients,
		reconciler->config->n_exempt_clients };
	_cleanup_(clients_done) struct clients have = { 0 };
	int r;

	r = entry_maps_read_clients(&reconciler->maps, &have);
	if (r < 0)
		return r;
	return client_plan_make(&have, &wanted, MAPS_EXEMPT_CLIENTS_MAX, rows_are_written, ret);
}

/* What fails ends it, since the order counts. */
static int set_clients(struct reconciler *reconciler, bool rows_are_written)
{
	_cleanup_(client_plan_done) struct client_plan plan = { 0 };
	int r;

	if (!reconciler->clients_are_stale)
		return 0;
	r = plan_clients(reconciler, rows_are_written, &plan);
	for (size_t i = 0; r == 0 && i < plan.n_ops; i++)
		r = entry_maps_apply_client(&reconciler->maps, &plan.ops[i]);
	reconciler->clients_are_missing = r < 0 && !rows_are_written;
	if (r < 0)
		log_error("cannot write exempt_clients: %s%s", strerror(-r),
			rows_are_written ? "" : "; nothing more goes direct until it can be");
	else if (rows_are_written)
		reconciler->clients_are_stale = false;
	return r;
}

/* Rows read from the maps do not say whose they are; the desired ones do. */
static void name_rows(struct rows *have, const struct rows *desired)
{
	for (size_t i = 0; i < have->n; i++)
		have->list[i].tunnel = plan_tunnel_of(desired, &have->list[i]);
}

/* They point into the snapshot that was; whoever asks for the status now is told of none. */
static void forget_tunnels(struct reconciler *reconciler)
{
	static const struct rows none;

	tunnels_done(&reconciler->tunnels);
	name_rows(&reconciler->have, &none);
}

/*
 * Everything up to the plan, which changes nothing. -EAGAIN from reading namespaces does not end it:
 * `ret_refreshed` has it, and the plan minds what is not known. The maps come first: when they cannot be
 * read, snapshot and tunnels stay as they are.
 */
static int read_and_plan(
	struct reconciler *reconciler, struct rows *ret_desired, int *ret_refreshed)
{
	int r;

	r = read_have(reconciler);
	if (r < 0)
		return r;
	*ret_refreshed = observer_refresh(&reconciler->observer, reconciler->config);
	/* Until then events of the host's links were taken for another namespace's. */
	if (reconciler->observer.own_was_numbered)
		reconciler->interfaces.stale = reconciler->interfaces.untold = true;
	reconciler->observer.own_was_numbered = false;
	if (*ret_refreshed < 0 && *ret_refreshed != -EAGAIN)
		return *ret_refreshed;
	r = make_plan(reconciler, ret_desired);
	if (r < 0)
		forget_tunnels(reconciler);
	return r;
}

/* What is counted between this and the attachment is counted in the former maps, and lost. */
static void carry_counters(struct reconciler *reconciler)
{
	_cleanup_(rows_done) struct rows rows = { 0 };
	struct slot_counters counters;

	if (reconciler->former.remotes < 0)
		return;
	if (entry_maps_read(&reconciler->former, &rows) < 0)
		rows = (struct rows){ 0 };
	for (size_t i = 0, j = 0; i < reconciler->have.n; i++) {
		const struct row *row = &reconciler->have.list[i];

		while (j < rows.n && row_compare(&rows.list[j], row) < 0)
			j++;
		if (j < rows.n && row_compare(&rows.list[j], row) == 0 &&
			rows.list[j].entry.game_server_ip == row->entry.game_server_ip &&
			entry_maps_count(&reconciler->former, rows.list[j].entry.slot, &counters) ==
				0)
			(void)entry_maps_set_count(&reconciler->maps, row->entry.slot, &counters);
	}
	if (entry_maps_count(&reconciler->former, MAPS_SLOT_NONE, &counters) == 0)
		(void)entry_maps_set_count(&reconciler->maps, MAPS_SLOT_NONE, &counters);
}

/* Attaches, leaves, restores. With maps that are to take the place of others this is the moment. */
static int follow(struct reconciler *reconciler)
{
	bool beside = dataplane_is_beside(reconciler->dataplane);
	int r = 0;

	if (takeover_wait(reconciler) > 0)
		return -EAGAIN;
	if (beside) {
		carry_counters(reconciler);
		entry_maps_done(&reconciler->former);
	}
	/* Following looks at the attachments as well, but may have to wait for the routes. */
	if (reconciler->interfaces.attachments_stale &&
		(!reconciler->interfaces.stale || interfaces_wait(&reconciler->interfaces) > 0))
		r = interfaces_restore(&reconciler->interfaces);
	if (r < 0)
		(void)interfaces_leave(&reconciler->interfaces);
	if (r == 0 && reconciler->interfaces.stale)
		r = interfaces_follow(&reconciler->interfaces);
	if (beside && !dataplane_is_beside(reconciler->dataplane))
		log_notice("new maps with room for %u rows have taken the place of the former",
			reconciler->maps.max_rows);
	return r;
}

/* Once more, in place of what is loaded. What does not pass by itself waits for the next full pass. */
static int load_again(struct reconciler *reconciler)
{
	int r = load_program(reconciler);

	reconciler->load_has_failed = r < 0;
	reconciler->load_was_refused = r < 0 && !error_may_pass(r);
	return r;
}

/* `max_entries` may have changed. Without the memory for it, things stay as they are. */
static int resize(struct reconciler *reconciler)
{
	bool failed_before = reconciler->load_has_failed;
	int r;

	if (!resize_is_due(reconciler))
		return 0;
	r = load_again(reconciler);
	if (r < 0 && !failed_before)
		log_error("the maps keep their room for %u rows", reconciler->maps.max_rows);
	return reconciler->load_was_refused ? 0 : r;
}

/*
 * With the pins went the maps; those that are made now are filled by the pass that follows. Once they are known to be
 * missing nothing but a success ends it: what failed may have left others in their place.
 */
static int renew_pins(struct reconciler *reconciler)
{
	const struct placement *placement = &reconciler->interfaces.placement;
	bool wanted = !placement->detached || placement->n > 0;

	if (!reconciler->pins_are_doubtful || !wanted || reconciler->load_was_refused)
		return 0;
	if (!reconciler->pins_are_missing && dataplane_is_pinned(reconciler->dataplane)) {
		reconciler->pins_are_doubtful = false;
		return 0;
	}
	reconciler->pins_are_missing = true;
	if (!reconciler->load_has_failed)
		log_notice("the pins were removed: making them anew");
	return load_again(reconciler);
}

/* Rows come before others go, so the room of those is for the next plan. */
static bool removes(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_ops; i++)
		if (plan->ops[i].verb == PLAN_REMOVE)
			return true;
	return false;
}

/* `ret_refreshed`: what came of reading the namespaces. */
static int do_pass(struct reconciler *reconciler, int *ret_refreshed)
{
	_cleanup_(rows_done) struct rows desired = { 0 };
	int r, resized, failed, clients;

	resized = resize(reconciler);
	failed = resized < 0 ? 0 : renew_pins(reconciler);
	r = read_and_plan(reconciler, &desired, ret_refreshed);
	if (r < 0) {
		(void)interfaces_leave(&reconciler->interfaces);
		return r;
	}
	/* An exempt client more only keeps packets on the tunnel, so they come first and go last. */
	clients = set_clients(reconciler, false);
	r = apply(reconciler);
	if (r == 0 && clients == 0)
		clients = set_clients(reconciler, true);
	if (r == 0)
		r = read_have(reconciler);
	name_rows(&reconciler->have, &desired);
	/* The maps are right before the first packet is looked at. */
	if (r == 0)
		r = follow(reconciler);
	else /* who wants it off need not wait for rows that can be written */
		(void)interfaces_leave(&reconciler->interfaces);
	if (clients < 0)
		failed = clients;
	if (failed < 0)
		reconciler->pass_error = failed;
	if (r == 0 && (failed < 0 || resized < 0))
		r = -EAGAIN;
	reconciler->passes++;
	reconciler->room_was_freed =
		r == 0 && reconciler->plan.n_no_room > 0 && removes(&reconciler->plan);
	return r;
}

int reconciler_run(struct reconciler *reconciler)
{
	int refreshed = -EAGAIN, r;

	reconciler->pass_error = 0;
	reconciler->room_was_freed = false;
	if (observer_takes_longer(&reconciler->observer, INTERFACES_DEAF_USEC))
		interfaces_suspend(&reconciler->interfaces);
	r = do_pass(reconciler, &refreshed);
	reconciler->has_failed = r < 0;
	/* Where the pass was not to read them anyway, they wait for their time. */
	if (r < 0 && interfaces_wait(&reconciler->interfaces) == 0)
		interfaces_doubt(&reconciler->interfaces);
	if (r < 0 && r != -EAGAIN)
		reconciler->pass_error = r;
	/* That the maps have not got their size is told by itself. */
	if (refreshed < 0 ||
		(r == -EAGAIN && takeover_wait(reconciler) == 0 && !reconciler->load_has_failed))
		reconciler->unread++;
	else
		reconciler->unread = 0;
	if (r < 0)
		return r;
	if (refreshed == 0)
		reconciler->synced_at = time(NULL);
	return refreshed;
}

int reconciler_dry_run(struct reconciler *reconciler, FILE *out)
{
	_cleanup_(rows_done) struct rows desired = { 0 };
	int refreshed, r;
	bool any;

	r = read_and_plan(reconciler, &desired, &refreshed);
	if (r < 0)
		return r;
	for (size_t i = 0; i < reconciler->plan.n_ops; i++) {
		char text[320];

		describe(&reconciler->plan.ops[i], &reconciler->tunnels, text, sizeof(text));
		(void)fprintf(out, "%s\n", text);
	}
	r = interfaces_dry_run(&reconciler->interfaces, out, &any);
	if (r < 0)
		return r;
	if (reconciler->plan.n_ops == 0 && !any)
		(void)fprintf(out, "nothing to do\n");
	return 0;
}

static struct status view(const struct reconciler *reconciler)
{
	return (struct status){
		.pid = reconciler->pid,
		.started_at = reconciler->started_at,
		.synced_at = reconciler->synced_at,
		.passes = reconciler->passes,
		.resync_interval_s = reconciler->config->resync_interval_s,
		.pass_error = reconciler->pass_error,
		.unread = reconciler->unread,
		.route_reads = reconciler->interfaces.route_reads,
		.config_path = reconciler->config_path,
		.config_file = reconciler->config_file,
		.config_loaded_at = reconciler->config_loaded_at,
		.config_error = reconciler->config_error,
		.reloads = reconciler->reloads,
		.snapshot = &reconciler->observer.snapshot,
		.tunnels = &reconciler->tunnels,
		.overrides = reconciler->overrides,
		.placement = &reconciler->interfaces.placement,
		.rows = &reconciler->have,
		.no_room = reconciler->plan.no_room,
		.n_no_room = reconciler->plan.n_no_room,
		.max_rows = reconciler->maps.max_rows,
		.wanted_rows = reconciler->config->max_entries,
		.takeover_waits = takeover_wait(reconciler) > 0,
		.interfaces = reconciler->interfaces.list,
		.n_interfaces = reconciler->interfaces.n,
	};
}

bool reconciler_is_degraded(const struct reconciler *reconciler)
{
	struct status status = view(reconciler);

	return status_is_degraded(&status);
}

json_t *reconciler_picture(const struct reconciler *reconciler)
{
	struct status status = view(reconciler);

	return picture_make(&status);
}

json_t *reconciler_status(struct reconciler *reconciler)
{
	_cleanup_free_ struct slot_counters *counters = NULL;
	struct status status = view(reconciler);
	struct slot_counters no_entry = { 0 };

	counters = calloc(status.rows->n + 1, sizeof(*counters));
	if (!counters)
		return NULL;
	/* A counter that cannot be read shows as zero; the document is still worth having. */
	for (size_t i = 0; i < status.rows->n; i++)
		(void)entry_maps_count(
			&reconciler->maps, status.rows->list[i].entry.slot, &counters[i]);
	(void)entry_maps_count(&reconciler->maps, MAPS_SLOT_NONE, &no_entry);
	status.counters = counters;
	status.no_entry = &no_entry;
	return status_make(&status);
}
