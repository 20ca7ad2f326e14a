/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/core/status.h"
#include "agent/interfaces.h"
#include "agent/util/cleanup.h"
#include "agent/util/clock.h"
#include "agent/util/error.h"
#include "agent/util/file.h"
#include "agent/util/log.h"

#define GOING_MAX_USEC (1000 * 1000)

void interfaces_done(struct interfaces *interfaces)
{
	free(interfaces->list);
	*interfaces = (struct interfaces){ 0 };
}

/* One that is not there is reported as not attached; it may come. */
static int get_by_name(
	const struct interfaces *interfaces, const char *name, struct host_interface *ret)
{
	struct host_interface found = { 0 };
	int r = rtnl_get_interface(interfaces->rtnl, name, &found);

	if (r < 0 && r != -ENODEV)
		return r;
	if (r < 0)
		(void)snprintf(found.name, sizeof(found.name), "%s", name);
	*ret = found;
	return 0;
}

static int named_interfaces(
	struct interfaces *interfaces, struct host_interface **ret, size_t *ret_n)
{
	const struct config *config = interfaces->config;
	_cleanup_free_ struct host_interface *list = calloc(config->n_interfaces, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_interfaces; i++) {
		int r = get_by_name(interfaces, config->interfaces[i], &list[i]);

		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(list);
	*ret_n = config->n_interfaces;
	return 0;
}

static int default_interfaces(struct interfaces *interfaces, const struct routes *routes,
	struct host_interface **ret, size_t *ret_n)
{
	_cleanup_free_ struct host_interface *list = NULL;
	_cleanup_free_ uint32_t *ifindexes = NULL;
	size_t n_ifindexes, n = 0;
	int r;

	r = routes_default_interfaces(routes, &ifindexes, &n_ifindexes);
	if (r < 0)
		return r;
	list = calloc(n_ifindexes + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < n_ifindexes; i++) {
		r = rtnl_get_interface_by_index(interfaces->rtnl, ifindexes[i], &list[n]);
		if (r == 0)
			n++;
		else if (r != -ENODEV) /* went with its route, after the dump */
			return r;
	}
	*ret = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

/* Where the program is, by this agent or one before it. One that is gone is reported as such. */
static int present_interfaces(
	struct interfaces *interfaces, struct host_interface **ret, size_t *ret_n)
{
	_cleanup_free_ struct host_interface *list = NULL;
	_cleanup_free_ uint32_t *pinned = NULL;
	size_t n_present = interfaces->n, n = 0;
	int r = 0;

	if (interfaces->n == 0)
		r = dataplane_attached(&pinned, &n_present);
	if (r < 0)
		return r;
	list = calloc(n_present + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < n_present; i++) {
		const struct attachment *known = pinned ? NULL : &interfaces->list[i].attachment;

		r = rtnl_get_interface_by_index(
			interfaces->rtnl, known ? known->ifindex : pinned[i], &list[n]);
		if (r < 0 && r != -ENODEV && r != -EINVAL) /* index 0 */
			return r;
		if (r < 0 && known)
			memcpy(list[n].name, known->ifname, sizeof(known->ifname));
		n += r == 0 || known;
	}
	*ret = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

/* Without any default route it stays where it is: the route may be back in a moment. */
static int configured_interfaces(struct interfaces *interfaces, const struct routes *routes,
	struct host_interface **ret, size_t *ret_n)
{
	int r;

	if (interfaces->config->n_interfaces > 0)
		return named_interfaces(interfaces, ret, ret_n);
	r = default_interfaces(interfaces, routes, ret, ret_n);
	if (r < 0 || *ret_n > 0)
		return r;
	free(*ret);
	*ret = NULL;
	return present_interfaces(interfaces, ret, ret_n);
}

static bool has_name(const struct host_interface *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i].name, name) == 0)
			return true;
	return false;
}

/* Once each: an interface has alternative names, too. Returns how many there are then. */
static size_t add_interface(
	struct host_interface *list, size_t n, const struct host_interface *interface)
{
	for (size_t i = 0; i < n; i++)
		if (interface->ifindex != 0 && list[i].ifindex == interface->ifindex)
			return n;
	if (has_name(list, n, interface->name))
		return n;
	list[n] = *interface;
	return n + 1;
}

/* Where an operator wants it goes before, and after a detach it is all: then nobody needs the routes. */
static int wanted_interfaces(struct interfaces *interfaces, const struct routes *routes,
	struct host_interface **ret, size_t *ret_n)
{
	const struct placement *placement = &interfaces->placement;
	_cleanup_free_ struct host_interface *configured = NULL, *list = NULL;
	size_t n_configured = 0, n = 0;
	int r = 0;

	if (!placement->detached)
		r = configured_interfaces(interfaces, routes, &configured, &n_configured);
	if (r < 0)
		return r;
	list = calloc(n_configured + placement->n + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < n_configured; i++)
		n = add_interface(list, n, &configured[i]);
	for (size_t i = 0; i < placement->n; i++) {
		struct host_interface found;

		if (has_name(list, n, placement->names[i]))
			continue;
		r = get_by_name(interfaces, placement->names[i], &found);
		if (r < 0)
			return r;
		n = add_interface(list, n, &found);
	}
	*ret = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

static const struct status_interface *find_interface(
	const struct interfaces *interfaces, uint32_t ifindex)
{
	for (size_t i = 0; i < interfaces->n; i++)
		if (interfaces->list[i].attachment.ifindex == ifindex)
			return &interfaces->list[i];
	return NULL;
}

/* What this agent attached there, and may be there still; 0: nothing. */
static uint32_t known_program(const struct status_interface *interface)
{
	if (!interface)
		return 0;
	return interface->attachment.program_id ?: interface->left_program;
}

static const char *attach_error(int r)
{
	switch (r) {
	case -ENODEV:
		return "there is no such interface";
	case -EEXIST:
		return "a filter of somebody else has our clsact priority and handle";
	case -EMEDIUMTYPE:
		return "what is pinned for it is not ours: see whose it is and remove it";
	case -ENOENT:
		return "its pins were removed: try \"ipipdirectctl attach\", else restart the agent";
	case -EAGAIN:
		return "its pin was removed and it is still attached: see who else has that "
		       "/sys/fs/bpf mounted";
	case -EBUSY: /* of guard_one() */
		return "it has " OFFLOAD_FEATURE ", which cannot be turned off";
	default:
		return strerror(-r);
	}
}

static void give_back(const struct interfaces *interfaces, uint32_t ifindex, const char *name)
{
	int r = guard_give_back(interfaces->guard.directory, ifindex);

	if (r > 0)
		log_notice("%s: turned " OFFLOAD_FEATURE " on again", name);
	else if (r < 0)
		log_warning("%s: cannot turn " OFFLOAD_FEATURE " on again: %s", name, strerror(-r));
}

/*
 * Sees to it that the device does not segment stripped packets by itself. What cannot be made safe is
 * not attached to: there the tunnel is the only right way.
 */
static int guard_one(struct interfaces *interfaces, const struct host_interface *wanted,
	struct status_interface *interface, bool *ret_give_back)
{
	struct guarded guarded;
	int r;

	guard_interface(&interfaces->guard, interfaces->config->offload_guard, wanted->ifindex,
		wanted->name, &guarded);
	if (guarded.error == -ENODEV)
		return -ENODEV;
	interface->guard = guarded.view;
	*ret_give_back = guarded.give_back;
	if (guarded.again)
		log_warning("%s: somebody turned " OFFLOAD_FEATURE " on: turned it off again",
			wanted->name);
	else if (guarded.turned_off)
		log_notice("%s: turned " OFFLOAD_FEATURE " off", wanted->name);
	else if (guarded.error < 0)
		log_error("%s: cannot turn " OFFLOAD_FEATURE " off: %s", wanted->name,
			strerror(-guarded.error));
	if (offload_is_safe(guarded.view.reason, interfaces->guard.kernel_clears))
		return 0;
	if (error_may_pass(guarded.error)) /* nothing is known: what is there stays */
		return guarded.error;
	/* Of this agent, or of one before it. */
	r = dataplane_detach(
		wanted->ifindex, known_program(find_interface(interfaces, wanted->ifindex)));
	return r < 0 ? r : -EBUSY;
}

void interfaces_replace_program(struct interfaces *interfaces, struct dataplane *dataplane)
{
	interfaces->dataplane = dataplane;
	interfaces->stale = true;
	/* Which one is there must be known until then: its pin may be gone, and the pass come to nothing. */
	for (size_t i = 0; i < interfaces->n; i++)
		interfaces->list[i].replaced = true;
}

static bool is_attached(const struct status_interface *interface)
{
	return interface && interface->attachment.kind != ATTACHMENT_NONE;
}

static void note_restored(struct status_interface *interface, const char *name)
{
	interface->restored++;
	log_about(LOG_WARNING, &(const struct log_about){ .id = LOG_ID_RESTORED, .ifname = name },
		"%s: somebody took the program off: attached again (%s, program %u)", name,
		attachment_kind_name(interface->attachment.kind), interface->attachment.program_id);
}

/*
 * A link goes a grace period after its pin, and hangs there meanwhile. Until then it is attached, and when it has gone
 * it is attached anew; a link that somebody else holds is told.
 */
static bool is_going(const struct status_interface *old, int r, uint64_t *ret_since)
{
	uint64_t now = monotonic_usec();
	uint64_t since = old && old->unpinned_usec > 0 ? old->unpinned_usec : now;

	*ret_since = since;
	return r == -EAGAIN && is_attached(old) && now - since < GOING_MAX_USEC;
}

/* What the agent before this one had attached there; 0: nobody knows. */
static uint32_t former_program(const struct interfaces *interfaces, uint32_t ifindex)
{
	_cleanup_free_ char *text = NULL;
	size_t size;

	if (file_read_at(interfaces->guard.directory, STATUS_FILE, STATUS_SIZE_MAX, &text, &size) <
		0)
		return 0;
	return status_program_of(text, size, ifindex);
}

static int attach(const struct interfaces *interfaces, const struct host_interface *wanted,
	const struct status_interface *old, struct attachment *ret)
{
	uint32_t known = known_program(old);
	int r = dataplane_attach(interfaces->dataplane, wanted, known, ret);

	if (r != -EEXIST || (old && old->attachment.error == -EEXIST)) /* asked once */
		return r;
	/* With its pin went what tells a filter of ours from others'; its agent's word is left. */
	known = former_program(interfaces, wanted->ifindex);
	return known != 0 ? dataplane_attach(interfaces->dataplane, wanted, known, ret) : r;
}

/* What may be there still though attaching failed with `r`. */
static uint32_t left_program(const struct status_interface *old, int r)
{
	switch (r) {
	case -ENODEV: /* gone with its interface */
	case -ENOENT: /* taken off, as it cannot be pinned */
	case -EEXIST: /* somebody else's is there */
	case -EBUSY:  /* guard_one() took it off */
		return 0;
	default:
		return known_program(old);
	}
}

static struct status_interface attach_one(
	struct interfaces *interfaces, const struct host_interface *wanted)
{
	const struct status_interface *old = find_interface(interfaces, wanted->ifindex);
	struct status_interface interface = {
		.attachment.ifindex = wanted->ifindex,
		.next_hop = old ? old->next_hop : UPLINK_SHORTCUT,
		.restored = old ? old->restored : 0,
	};
	bool is_given_back = false;
	int there = -ENOENT, r = -ENODEV;
	uint64_t since;

	if (wanted->ifindex != 0)
		r = guard_one(interfaces, wanted, &interface, &is_given_back);
	if (is_attached(old) && r != -ENODEV)
		there = dataplane_check(&old->attachment);
	interfaces->may_pass = interfaces->may_pass || error_may_pass(r) || error_may_pass(there);
	/* Where nothing is known just now, what was there holds. */
	if ((error_may_pass(r) && there == 0) || (r == 0 && error_may_pass(there)) ||
		(error_may_pass(r) && error_may_pass(there)))
		return *old;
	if (r == 0 && there == 0 && !old->replaced) {
		interface.attachment = old->attachment;
	} else if (r == 0) {
		r = attach(interfaces, wanted, old, &interface.attachment);
		if (is_going(old, r, &since)) {
			interface = *old;
			interface.unpinned_usec = since;
			interfaces->may_pass = true;
			return interface;
		}
		if (r == 0 && is_attached(old) && !old->replaced)
			note_restored(&interface, wanted->name);
		else if (r == 0)
			log_about(LOG_NOTICE,
				&(const struct log_about){
					.id = LOG_ID_ATTACHED, .ifname = wanted->name },
				"attached to %s (%s, program %u)", wanted->name,
				attachment_kind_name(interface.attachment.kind),
				interface.attachment.program_id);
	}
	memcpy(interface.attachment.ifname, wanted->name, sizeof(wanted->name));
	interfaces->may_pass = interfaces->may_pass || error_may_pass(r);
	if (r < 0) {
		interface.attachment.error = r;
		interface.error = attach_error(r);
		interface.left_program = left_program(old, r);
		if (!old || old->attachment.error != r) /* said once */
			log_about(LOG_ERR,
				&(const struct log_about){ .id = LOG_ID_NOT_ATTACHED,
					.ifname = wanted->name,
					.reason = interface.error },
				"cannot attach to %s: %s", wanted->name, interface.error);
	} else if (is_given_back) { /* the program that is there now can do without */
		give_back(interfaces, wanted->ifindex, wanted->name);
	}
	return interface;
}

static int leave(uint32_t ifindex, uint32_t known, size_t *n_left)
{
	int r = dataplane_detach(ifindex, known);

	if (r == 0)
		log_notice("detached from interface %u", ifindex);
	else
		log_warning("cannot leave a former interface: %s", strerror(-r));
	*n_left += r == 0;
	return r;
}

/* By what this agent attached itself, pinned or not. What cannot be left stays in the list, lest that be forgotten. */
static int detach_own(struct interfaces *interfaces, const struct status_interface *former,
	size_t n_former, size_t *n_left)
{
	int result = 0;

	for (size_t i = 0; i < n_former; i++) {
		uint32_t ifindex = former[i].attachment.ifindex;
		int r;

		if ((!is_attached(&former[i]) && former[i].left_program == 0) ||
			find_interface(interfaces, ifindex))
			continue;
		r = leave(ifindex, known_program(&former[i]), n_left);
		if (r < 0) {
			interfaces->list[interfaces->n++] = former[i];
			result = r;
		}
	}
	return result;
}

/* By their pins: those of an agent before this one. */
static int detach_others(struct interfaces *interfaces, size_t *n_left)
{
	_cleanup_free_ uint32_t *attached = NULL;
	size_t n;
	int r;

	r = dataplane_attached(&attached, &n);
	if (r < 0)
		log_warning("cannot look for former interfaces: %s", strerror(-r));
	for (size_t i = 0; r == 0 && i < n; i++)
		if (!find_interface(interfaces, attached[i]))
			r = leave(attached[i], 0, n_left);
	return r;
}

/* What was turned off where the program is not any more: gives it back if `now`. Returns whether there was any. */
static bool see_to_others(const struct interfaces *interfaces, bool now)
{
	_cleanup_(offload_memory_done) struct offload_memory here = { 0 }, elsewhere = { 0 };
	int r = guard_read(interfaces->guard.directory, &here, &elsewhere);
	bool any = false;

	if (r < 0)
		log_warning("cannot read " GUARD_FILE ": %s", strerror(-r));
	for (size_t i = 0; i < here.n; i++) {
		if (find_interface(interfaces, here.list[i].ifindex))
			continue;
		any = true;
		if (now)
			give_back(interfaces, here.list[i].ifindex, here.list[i].ifname);
	}
	return any;
}

/*
 * Whether a former program may be there all the same, which needs its maps and its parts. Not where there is no such
 * interface, or somebody else's filter; and where nothing may be, guard_one() took it off, or it had better leave all
 * to the tunnel.
 */
static bool may_have_former(const struct attachment *attachment)
{
	switch (attachment->error) {
	case 0:
	case -EEXIST:
	case -EBUSY:
		return false;
	default:
		return attachment->ifindex != 0;
	}
}

/* Gives the maps their place, and lets go of what a former program needed. */
static int settle(struct interfaces *interfaces)
{
	int r = dataplane_settle(interfaces->dataplane);

	if (r < 0) {
		log_warning("cannot give the new maps their place: %s", strerror(-r));
		return r;
	}
	r = dataplane_tidy(interfaces->dataplane);
	if (r < 0)
		log_warning("cannot remove pins of a former program: %s", strerror(-r));
	return 0;
}

/* All but those in the list, which has room for what cannot be left. Gives their features back, later. */
static int leave_others(
	struct interfaces *interfaces, const struct status_interface *former, size_t n_former)
{
	size_t n_left = 0;
	int own = detach_own(interfaces, former, n_former, &n_left);
	int others = detach_others(interfaces, &n_left);

	/* Of what an agent attached itself, what could not be left is in the list. */
	if (others < 0)
		interfaces->give_back_at = 0;
	else if (n_left > 0 || interfaces->give_back_at == 0)
		interfaces->give_back_at =
			see_to_others(interfaces, false)
				? monotonic_usec() + GUARD_QUEUE_SECONDS * USEC_PER_SEC
				: 0;
	return own < 0 ? own : others;
}

/*
 * Attaches to the new interfaces before leaving the old. `ret_left_over`: -errno, why a former one is not left, or the maps
 * are not in their place; 0.
 */
static int attach_wanted(
	struct interfaces *interfaces, const struct routes *routes, int *ret_left_over)
{
	_cleanup_free_ struct host_interface *wanted = NULL;
	_cleanup_free_ struct status_interface *former = NULL;
	struct status_interface *fresh;
	size_t n, n_former = interfaces->n;
	bool former_goes_on = false;
	int r;

	r = wanted_interfaces(interfaces, routes, &wanted, &n);
	if (r < 0)
		return r;
	fresh = calloc(n + n_former + 1, sizeof(*fresh)); /* with room for what cannot be left */
	if (!fresh)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		fresh[i] = attach_one(interfaces, &wanted[i]);
		former_goes_on = former_goes_on || may_have_former(&fresh[i].attachment);
	}
	former = interfaces->list;
	interfaces->list = fresh;
	interfaces->n = n;
	if (n == 0 && !interfaces->placement.detached)
		return 0;
	r = leave_others(interfaces, former, n_former);
	/* Who wants it off waits until it is. */
	if (r < 0 && interfaces->placement.detached)
		return r;
	*ret_left_over = r;
	if (!former_goes_on && !interfaces->may_pass && (r = settle(interfaces)) < 0)
		*ret_left_over = r;
	return 0;
}

int interfaces_leave(struct interfaces *interfaces)
{
	_cleanup_free_ struct host_interface *wanted = NULL;
	_cleanup_free_ struct status_interface *former = NULL;
	struct status_interface *kept;
	const struct status_interface *old;
	size_t n, n_former = interfaces->n;
	int r;

	if (!interfaces->placement.detached)
		return 0;
	r = wanted_interfaces(interfaces, NULL, &wanted, &n);
	if (r < 0)
		return r;
	kept = calloc(n + n_former + 1, sizeof(*kept));
	if (!kept)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		old = find_interface(interfaces, wanted[i].ifindex);
		if (old)
			kept[i] = *old;
		else
			kept[i].error = "the last pass failed: not before the maps are right";
		kept[i].attachment.ifindex = wanted[i].ifindex;
		memcpy(kept[i].attachment.ifname, wanted[i].name, sizeof(wanted[i].name));
	}
	former = interfaces->list;
	interfaces->list = kept;
	interfaces->n = n;
	r = leave_others(interfaces, former, n_former);
	interfaces->is_off = r == 0 && n == 0;
	return r;
}

bool interfaces_are_placed(const struct interfaces *interfaces)
{
	return interfaces->is_off || !interfaces->stale;
}

/* What is nowhere goes by none; they may not be readable just now, and change all the time. */
static bool needs_routes(const struct interfaces *interfaces)
{
	return !interfaces->placement.detached || interfaces->placement.n > 0;
}

void interfaces_place(struct interfaces *interfaces, const struct placement *placement)
{
	interfaces->placement = *placement;
	interfaces->stale = true;
	interfaces->read_again = 0;
	interfaces->is_off = false;
}

/*
 * Routes changed, and are read in a while: until then nothing is believed of whom that is about. Of a single route it is
 * known, so that routes that flap cost nobody else the shortcut.
 */
static void doubt_some(struct interfaces *interfaces, const struct bell *bell)
{
	struct maps_uplink *places = dataplane_tables(interfaces->dataplane)->uplinks;

	if (bell->one_route)
		for (size_t i = 0; i < MAPS_UPLINKS; i++) {
			if (places[i].ifindex != 0)
				uplink_mark(&places[i], &bell->route);
		}
	else if (interfaces_wait(interfaces) > ROUTES_PAUSE_MIN_USEC)
		interfaces_doubt(interfaces);
}

bool interfaces_ring(struct interfaces *interfaces, const struct bell *bell)
{
	bool minds = false;

	if (bell->routes_changed && needs_routes(interfaces)) {
		minds = interfaces->stale = interfaces->untold = true;
		doubt_some(interfaces, bell);
	}
	if ((bell->tc_changed && find_interface(interfaces, bell->tc_ifindex)) || bell->own_overrun)
		minds = interfaces->attachments_stale = true;
	return minds;
}

bool interfaces_have_links(const struct interfaces *interfaces)
{
	for (size_t i = 0; i < interfaces->n; i++)
		if (interfaces->list[i].attachment.kind == ATTACHMENT_TCX)
			return true;
	return false;
}

bool interfaces_check(struct interfaces *interfaces, enum attachment_kind kind)
{
	for (size_t i = 0; i < interfaces->n; i++)
		if (interfaces->list[i].attachment.kind == kind &&
			(interfaces->list[i].replaced ||
				dataplane_check(&interfaces->list[i].attachment) < 0))
			interfaces->attachments_stale = true;
	return interfaces->attachments_stale;
}

/* One that an operator took it off, and that could not be left yet. */
static bool is_left_over(
	const struct interfaces *interfaces, const struct status_interface *interface)
{
	return interfaces->placement.detached &&
	       !placement_has(&interfaces->placement, interface->attachment.ifname);
}

static void restore_one(struct interfaces *interfaces, struct status_interface *interface)
{
	bool was_attached = is_attached(interface);
	struct host_interface wanted;
	int r;

	/* One that has no index yet, or is gone, comes and goes with a bell of its own. */
	if (interface->attachment.ifindex == 0 || is_left_over(interfaces, interface))
		return;
	r = rtnl_get_interface_by_index(interfaces->rtnl, interface->attachment.ifindex, &wanted);
	if (r < 0) {
		interfaces->may_pass = interfaces->may_pass || error_may_pass(r);
		return;
	}
	*interface = attach_one(interfaces, &wanted);
	if (!was_attached && is_attached(interface))
		interfaces->stale = true; /* the program does not know its routes yet */
}

int interfaces_restore(struct interfaces *interfaces)
{
	interfaces->may_pass = false;
	for (size_t i = 0; i < interfaces->n; i++)
		restore_one(interfaces, &interfaces->list[i]);
	interfaces->attachments_stale = interfaces->may_pass;
	return interfaces->may_pass ? -EAGAIN : 0;
}

/* Tells the program what it may know of its interfaces' routes. */
static void tell_routes(struct interfaces *interfaces, const struct routes *routes)
{
	struct maps_uplink *places = dataplane_tables(interfaces->dataplane)->uplinks;
	bool taken[MAPS_UPLINKS] = { false };

	for (size_t i = 0; i < interfaces->n; i++) {
		struct status_interface *interface = &interfaces->list[i];
		uint32_t ifindex = interface->attachment.ifindex, place = ifindex % MAPS_UPLINKS;
		struct maps_uplink uplink;

		if (interface->attachment.kind == ATTACHMENT_NONE)
			continue;
		interface->next_hop = uplink_make(routes, ifindex, &uplink);
		if (interface->next_hop == UPLINK_SHORTCUT && !uplink.via[0] &&
			interface->attachment.arphrd == ARPHRD_ETHER)
			interface->next_hop = UPLINK_NO_GATEWAY;
		if (taken[place]) {
			interface->next_hop = UPLINK_NO_PLACE;
			continue;
		}
		taken[place] = true;
		uplink_store(&places[place], &uplink, interfaces->suspended);
	}
	for (size_t i = 0; i < MAPS_UPLINKS; i++)
		if (!taken[i])
			__atomic_store_n(&places[i].ifindex, 0, __ATOMIC_SEQ_CST);
	interfaces->untold = false;
}

void interfaces_doubt(struct interfaces *interfaces)
{
	struct maps_uplink *places = dataplane_tables(interfaces->dataplane)->uplinks;

	if (!interfaces->untold)
		return;
	for (size_t i = 0; i < MAPS_UPLINKS; i++)
		__atomic_store_n(&places[i].ifindex, 0, __ATOMIC_SEQ_CST);
	/* The others' packets ask it as they did. */
	for (size_t i = 0; i < interfaces->n; i++)
		if (interfaces->list[i].next_hop == UPLINK_SHORTCUT)
			interfaces->list[i].next_hop = UPLINK_UNREAD;
}

void interfaces_suspend(struct interfaces *interfaces)
{
	struct maps_uplink *places = dataplane_tables(interfaces->dataplane)->uplinks;

	interfaces->suspended = true;
	for (size_t i = 0; i < MAPS_UPLINKS; i++)
		if (places[i].ifindex != 0)
			__atomic_fetch_or(&places[i].ifindex, UPLINK_SUSPENDED, __ATOMIC_SEQ_CST);
}

void interfaces_resume(struct interfaces *interfaces)
{
	struct maps_uplink *places = dataplane_tables(interfaces->dataplane)->uplinks;

	interfaces->suspended = false;
	for (size_t i = 0; i < MAPS_UPLINKS; i++)
		__atomic_fetch_and(&places[i].ifindex, ~UPLINK_SUSPENDED, __ATOMIC_SEQ_CST);
}

/* The gateways that the program may send to: only those with a link-layer address have an entry. */
static int note_gateways(struct interfaces *interfaces, const struct routes *routes)
{
	_cleanup_free_ uint32_t *ifindexes = calloc(interfaces->n + 1, sizeof(*ifindexes));
	size_t n = 0;

	if (!ifindexes)
		return -ENOMEM;
	for (size_t i = 0; i < interfaces->n; i++)
		if (interfaces->list[i].attachment.arphrd == ARPHRD_ETHER)
			ifindexes[n++] = interfaces->list[i].attachment.ifindex;
	next_hops_update(&interfaces->upkeep.hops, routes, ifindexes, n);
	return 0;
}

/*
 * The program compares frames with what it has learned. That goes on fitting where the POP has a route of its own
 * by a router that is no longer the default gateway.
 */
static void check_learned(const struct interfaces *interfaces, struct maps_uplink *place)
{
	__u64 word = __atomic_load_n(&place->gateway, __ATOMIC_RELAXED);

	if ((uint16_t)word == place->generation &&
		!next_hops_are_reached_by(&interfaces->upkeep.hops,
			place->ifindex & ~UPLINK_SUSPENDED, maps_gateway_mac(&word)))
		place->generation++;
}

void interfaces_give_back(struct interfaces *interfaces)
{
	uint64_t now = monotonic_usec();

	if (interfaces->give_back_at == 0)
		return;
	if (interfaces->give_back_at > now)
		(void)usleep((useconds_t)(interfaces->give_back_at - now));
	interfaces->give_back_at = 0;
	(void)see_to_others(interfaces, true);
}

uint64_t interfaces_look_after(struct interfaces *interfaces, uint64_t now)
{
	uint64_t wait = upkeep_run(&interfaces->upkeep, now);

	if (interfaces->give_back_at > now) {
		if (interfaces->give_back_at - now < wait)
			wait = interfaces->give_back_at - now;
	} else {
		interfaces_give_back(interfaces);
	}
	for (size_t i = 0; i < MAPS_UPLINKS; i++)
		check_learned(interfaces, &dataplane_tables(interfaces->dataplane)->uplinks[i]);
	return wait;
}

uint64_t interfaces_wait(const struct interfaces *interfaces)
{
	uint64_t now = monotonic_usec();

	return interfaces->read_again > now ? interfaces->read_again - now : 0;
}

/* A host that speaks BGP may have a million of them, of which some change all the time. */
static int read_routes(struct interfaces *interfaces, struct routes *ret)
{
	/* The kernel lists them on our account. What others have of the processor meanwhile makes no pause longer. */
	uint64_t start = clock_usec(CLOCK_THREAD_CPUTIME_ID);
	int r = rtnl_read_routes(interfaces->rtnl, ret);
	uint64_t took = clock_usec(CLOCK_THREAD_CPUTIME_ID) - start;

	interfaces->read_again = monotonic_usec() + routes_pause(took);
	interfaces->route_reads++;
	return r;
}

int interfaces_follow(struct interfaces *interfaces)
{
	_cleanup_(routes_done) struct routes routes = { 0 };
	int left_over = 0, r = 0;

	if (interfaces_wait(interfaces) > 0)
		return 0;
	interfaces->may_pass = false;
	if (needs_routes(interfaces))
		r = read_routes(interfaces, &routes);
	if (r < 0)
		(void)interfaces_leave(interfaces);
	else
		r = attach_wanted(interfaces, &routes, &left_over);
	if (r == 0)
		r = note_gateways(interfaces, &routes);
	if (r < 0) {
		interfaces_doubt(interfaces);
		return r;
	}
	tell_routes(interfaces, &routes);
	interfaces->stale = interfaces->may_pass || left_over < 0;
	interfaces->attachments_stale = false;
	/* What is wanted is attached; what is left is done by another pass. */
	if (left_over < 0)
		return left_over;
	return interfaces->may_pass ? -EAGAIN : 0;
}

static bool is_there(uint32_t ifindex)
{
	return dataplane_check_any(ATTACHMENT_TCX, ifindex) == 0 ||
	       dataplane_check_any(ATTACHMENT_CLSACT, ifindex) == 0;
}

/* Whether there is anything to say. */
static bool describe_attach(
	const struct interfaces *interfaces, const struct host_interface *wanted, FILE *out)
{
	struct guarded guarded = { 0 };
	char name[4 * IF_NAMESIZE + 8];

	log_escape(wanted->name, name, sizeof(name));
	if (wanted->ifindex == 0) {
		(void)fprintf(out, "cannot attach to %s: %s\n", name, attach_error(-ENODEV));
		return true;
	}
	guard_interface(&interfaces->guard, interfaces->config->offload_guard, wanted->ifindex,
		wanted->name, &guarded);
	if (guarded.turned_off)
		(void)fprintf(out, "turn " OFFLOAD_FEATURE " off on %s\n", name);
	if (!offload_is_safe(guarded.view.reason, interfaces->guard.kernel_clears)) {
		(void)fprintf(out, "cannot attach to %s: %s\n", name, attach_error(-EBUSY));
		return true;
	}
	if (is_there(wanted->ifindex))
		return guarded.turned_off;
	(void)fprintf(out, "attach to %s\n", name);
	return true;
}

int interfaces_dry_run(struct interfaces *interfaces, FILE *out, bool *ret_any)
{
	_cleanup_(routes_done) struct routes routes = { 0 };
	_cleanup_free_ struct host_interface *wanted = NULL;
	bool any = false;
	size_t n = 0;
	int r;

	r = rtnl_read_routes(interfaces->rtnl, &routes);
	if (r == 0)
		r = wanted_interfaces(interfaces, &routes, &wanted, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		any = describe_attach(interfaces, &wanted[i], out) || any;
	if (n == 0 && !interfaces->placement.detached) {
		(void)fprintf(out, NO_INTERFACE "\n");
		any = true;
	}
	*ret_any = any;
	return 0;
}
