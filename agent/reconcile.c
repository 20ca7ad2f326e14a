/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/kern/netns.h"
#include "agent/reconcile.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/log.h"

int reconciler_init(struct reconciler *reconciler, const struct config *config, bool dry_run)
{
	int r;

	*reconciler = (struct reconciler){
		.config = config,
		.maps = ENTRY_MAPS_NONE,
		.interfaces_are_stale = true,
		.clients_are_stale = true,
		.started_at = time(NULL),
	};
	r = rtnl_open(&reconciler->rtnl);
	if (r < 0) {
		log_error("cannot open a netlink socket: %s", strerror(-r));
		return r;
	}
	observer_init(&reconciler->observer, reconciler->rtnl, NETNS_DIR);
	if (!dry_run) {
		r = dataplane_load(config->max_entries, &reconciler->dataplane);
		if (r < 0) {
			log_error("cannot load the BPF program and its maps: %s", strerror(-r));
			return r;
		}
	}
	r = entry_maps_open(dry_run, &reconciler->maps);
	if (r < 0 && !(dry_run && r == -ENOENT)) {
		log_error("cannot open the pinned maps: %s", strerror(-r));
		return r;
	}
	if (!dry_run && reconciler->maps.max_rows != config->max_entries)
		log_warning("the pinned maps have room for %u rows, not max_entries = %u; "
			    "\"ipipdirectctl detach\" and a restart make new ones",
			reconciler->maps.max_rows, config->max_entries);
	return 0;
}

void reconciler_done(struct reconciler *reconciler)
{
	observer_done(&reconciler->observer);
	tunnels_done(&reconciler->tunnels);
	rows_done(&reconciler->have);
	plan_done(&reconciler->plan);
	entry_maps_done(&reconciler->maps);
	dataplane_free(reconciler->dataplane);
	rtnl_close(reconciler->rtnl);
	free(reconciler->interfaces);
	*reconciler = (struct reconciler){ .maps = ENTRY_MAPS_NONE };
}

void reconciler_ring(struct reconciler *reconciler, const struct bell *bell)
{
	observer_ring(&reconciler->observer, bell);
	if (bell->routes_changed || bell->overrun)
		reconciler->interfaces_are_stale = true;
}

void reconciler_ring_list(struct reconciler *reconciler)
{
	observer_ring_list(&reconciler->observer);
}

void reconciler_ring_all(struct reconciler *reconciler)
{
	observer_ring_all(&reconciler->observer);
	reconciler->interfaces_are_stale = true;
	reconciler->clients_are_stale = true;
	reconciler->have_is_valid = false;
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
	return 0;
}

/* Tunnels → desired → plan. */
static int make_plan(struct reconciler *reconciler, struct rows *ret_desired)
{
	struct plan_limits limits = {
		.max_rows = reconciler->maps.remotes < 0 ? reconciler->config->max_entries
							 : reconciler->maps.max_rows,
		.complete = reconciler->observer.snapshot.complete,
	};
	_cleanup_(tunnels_done) struct tunnels tunnels = { 0 };
	_cleanup_(rows_done) struct rows desired = { 0 };
	struct plan plan;
	int r;

	limits.max_slots = 2 * limits.max_rows + 1;
	r = tunnels_make(&reconciler->observer.snapshot, reconciler->config, &tunnels);
	if (r < 0)
		return r;
	r = desired_make(&tunnels, &desired);
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

/* "add remote 203.0.113.1 -> 203.0.113.1, direct (netns game1, tun0)" */
static void describe(
	const struct plan_op *op, const struct tunnels *tunnels, char *buf, size_t size)
{
	char key[64], what[96] = "", whose[128] = "";
	const struct maps_entry *entry = &op->row.entry;

	if (op->verb != PLAN_REMOVE && (entry->flags & MAPS_FLAG_SHARED))
		(void)snprintf(what, sizeof(what), " shared, by inner source");
	else if (op->verb != PLAN_REMOVE)
		(void)snprintf(what, sizeof(what), " -> %s, %s",
			IP4_FORMAT(((struct ip4){ entry->game_server_ip })),
			maps_mode_name((enum maps_mode)entry->mode));
	if (op->verb != PLAN_REMOVE && op->row.tunnel < tunnels->n) {
		const struct tunnel *tunnel = &tunnels->list[op->row.tunnel];

		(void)snprintf(whose, sizeof(whose), " (netns %s, %s)", netns_label(tunnel->netns),
			tunnel->link->name);
	}
	(void)snprintf(buf, size, "%s %s%s%s", plan_verb_name(op->verb), row_name(&op->row, key),
		what, whose);
}

/* An operation that fails leaves its packets on the tunnel and the others to go on. */
static int apply(struct reconciler *reconciler)
{
	int result = 0;

	for (size_t i = 0; i < reconciler->plan.n_ops; i++) {
		const struct plan_op *op = &reconciler->plan.ops[i];
		char text[320];
		int r;

		r = entry_maps_apply(&reconciler->maps, op);
		describe(op, &reconciler->tunnels, text, sizeof(text));
		if (r < 0) {
			log_error("cannot %s: %s; continuing anyway", text, strerror(-r));
			result = -EAGAIN;
		} else {
			log_info("%s", text);
		}
	}
	if (reconciler->plan.n_ops > 0)
		reconciler->have_is_valid = false;
	return result;
}

static int set_clients(struct reconciler *reconciler, bool only_add)
{
	const struct config *config = reconciler->config;
	int r;

	if (!reconciler->clients_are_stale)
		return 0;
	r = entry_maps_set_clients(
		&reconciler->maps, config->exempt_clients, config->n_exempt_clients, only_add);
	if (r < 0)
		log_error("cannot write exempt_clients: %s", strerror(-r));
	else if (!only_add)
		reconciler->clients_are_stale = false;
	return r;
}

/* Rows read from the maps do not say whose they are; the desired ones do. */
static void name_rows(struct rows *have, const struct rows *desired)
{
	for (size_t i = 0, j = 0; i < have->n; i++) {
		while (j < desired->n && row_compare(&desired->list[j], &have->list[i]) < 0)
			j++;
		if (j < desired->n && row_compare(&desired->list[j], &have->list[i]) == 0)
			have->list[i].tunnel = desired->list[j].tunnel;
		else
			have->list[i].tunnel = SIZE_MAX;
	}
}

static int wanted_interfaces(
	struct reconciler *reconciler, struct host_interface **ret, size_t *ret_n)
{
	const struct config *config = reconciler->config;
	_cleanup_free_ struct host_interface *list = NULL;
	size_t n = 0;

	if (config->n_interfaces == 0)
		return rtnl_default_interfaces(reconciler->rtnl, ret, ret_n);
	for (size_t i = 0; i < config->n_interfaces; i++) {
		struct host_interface *slot = ARRAY_APPEND(list, n);
		int r;

		if (!slot)
			return -ENOMEM;
		r = rtnl_get_interface(reconciler->rtnl, config->interfaces[i], slot);
		if (r == -ENODEV) /* reported as not attached, by its name; it may come */
			(void)snprintf(slot->name, sizeof(slot->name), "%s", config->interfaces[i]);
		else if (r < 0)
			return r;
		n++;
	}
	*ret = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

static const struct status_interface *find_interface(
	const struct reconciler *reconciler, uint32_t ifindex)
{
	for (size_t i = 0; i < reconciler->n_interfaces; i++)
		if (reconciler->interfaces[i].attachment.ifindex == ifindex)
			return &reconciler->interfaces[i];
	return NULL;
}

static const char *attach_error(int r)
{
	switch (r) {
	case -ENODEV:
		return "there is no such interface";
	case -EEXIST:
		return "a filter of somebody else has our clsact priority and handle";
	default:
		return strerror(-r);
	}
}

static struct status_interface attach_one(
	struct reconciler *reconciler, const struct host_interface *wanted)
{
	const struct status_interface *old = find_interface(reconciler, wanted->ifindex);
	struct status_interface interface = { .attachment.ifindex = wanted->ifindex };
	int r = wanted->ifindex == 0 ? -ENODEV : 0;

	memcpy(interface.attachment.ifname, wanted->name, sizeof(interface.attachment.ifname));
	if (r == 0 && old && dataplane_check(&old->attachment) == 0) {
		interface.attachment = old->attachment;
		memcpy(interface.attachment.ifname, wanted->name, sizeof(wanted->name));
		return interface;
	}
	if (r == 0)
		r = dataplane_attach(reconciler->dataplane, wanted, &interface.attachment);
	if (r < 0) {
		interface.attachment.error = r;
		interface.error = attach_error(r);
		log_error("cannot attach to %s: %s", wanted->name, interface.error);
	} else {
		log_notice("attached to %s (%s, program %u)", wanted->name,
			attachment_kind_name(interface.attachment.kind),
			interface.attachment.program_id);
	}
	return interface;
}

/* Leaves the interfaces that are not wanted any more, of this agent or of one before it. */
static void detach_others(struct reconciler *reconciler)
{
	_cleanup_free_ uint32_t *attached = NULL;
	size_t n;
	int r;

	r = dataplane_attached(&attached, &n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (find_interface(reconciler, attached[i]))
			continue;
		r = dataplane_detach(attached[i]);
		if (r == 0)
			log_notice("detached from interface %u", attached[i]);
	}
	if (r < 0)
		log_warning("cannot leave a former interface: %s", strerror(-r));
}

/*
 * Attaches to the new interfaces before leaving the old. Without any default route it stays where it
 * is: the route may be back in a moment.
 */
static int follow_interfaces(struct reconciler *reconciler)
{
	_cleanup_free_ struct host_interface *wanted = NULL;
	_cleanup_free_ struct status_interface *fresh = NULL;
	size_t n;
	int r;

	r = wanted_interfaces(reconciler, &wanted, &n);
	if (r < 0)
		return r;
	if (n == 0 && reconciler->n_interfaces > 0) {
		reconciler->interfaces_are_stale = false;
		return 0;
	}
	fresh = calloc(n + 1, sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		fresh[i] = attach_one(reconciler, &wanted[i]);
	free(reconciler->interfaces);
	reconciler->interfaces = TAKE_PTR(fresh);
	reconciler->n_interfaces = n;
	if (n > 0)
		detach_others(reconciler);
	reconciler->interfaces_are_stale = false;
	return 0;
}

/*
 * Everything up to the plan, which changes nothing. -EAGAIN from reading namespaces does not end it:
 * `ret_refreshed` has it, and the plan minds what is not known.
 */
static int read_and_plan(
	struct reconciler *reconciler, struct rows *ret_desired, int *ret_refreshed)
{
	int r;

	*ret_refreshed = observer_refresh(&reconciler->observer);
	if (*ret_refreshed < 0 && *ret_refreshed != -EAGAIN)
		return *ret_refreshed;
	r = read_have(reconciler);
	return r < 0 ? r : make_plan(reconciler, ret_desired);
}

int reconciler_run(struct reconciler *reconciler)
{
	_cleanup_(rows_done) struct rows desired = { 0 };
	int refreshed, r;

	r = read_and_plan(reconciler, &desired, &refreshed);
	if (r < 0)
		return r;
	/* An exempt client more only keeps packets on the tunnel, so they come first and go last. */
	r = set_clients(reconciler, true);
	if (r == 0)
		r = apply(reconciler);
	if (r == 0)
		r = set_clients(reconciler, false);
	if (r == 0)
		r = read_have(reconciler);
	name_rows(&reconciler->have, &desired);
	/* The maps are right before the first packet is looked at. */
	if (r == 0 && reconciler->interfaces_are_stale)
		r = follow_interfaces(reconciler);
	reconciler->passes++;
	if (r < 0)
		return r;
	if (refreshed == 0)
		reconciler->synced_at = time(NULL);
	return refreshed;
}

int reconciler_dry_run(struct reconciler *reconciler, FILE *out)
{
	_cleanup_(rows_done) struct rows desired = { 0 };
	_cleanup_free_ struct host_interface *wanted = NULL;
	int refreshed, r;
	size_t n;

	r = read_and_plan(reconciler, &desired, &refreshed);
	if (r < 0)
		return r;
	r = wanted_interfaces(reconciler, &wanted, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < reconciler->plan.n_ops; i++) {
		char text[320];

		describe(&reconciler->plan.ops[i], &reconciler->tunnels, text, sizeof(text));
		(void)fprintf(out, "%s\n", text);
	}
	for (size_t i = 0; i < n; i++)
		(void)fprintf(out, "attach to %s\n", wanted[i].name);
	if (reconciler->plan.n_ops == 0 && n == 0)
		(void)fprintf(out, "nothing to do\n");
	return 0;
}

static struct status view(const struct reconciler *reconciler)
{
	return (struct status){
		.pid = getpid(),
		.started_at = reconciler->started_at,
		.synced_at = reconciler->synced_at,
		.passes = reconciler->passes,
		.config_path = reconciler->config_path,
		.config_error = reconciler->config_error,
		.snapshot = &reconciler->observer.snapshot,
		.tunnels = &reconciler->tunnels,
		.rows = &reconciler->have,
		.no_room = reconciler->plan.no_room,
		.n_no_room = reconciler->plan.n_no_room,
		.max_rows = reconciler->maps.max_rows,
		.interfaces = reconciler->interfaces,
		.n_interfaces = reconciler->n_interfaces,
	};
}

bool reconciler_is_degraded(const struct reconciler *reconciler)
{
	struct status status = view(reconciler);

	return status_is_degraded(&status);
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
