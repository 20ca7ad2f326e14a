/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/modes.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"

#define MODES_FILE "modes.json"

int modes_load(struct modes *modes, int run_dir, size_t *ret_lost)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r;

	*modes = (struct modes){ .run_dir = run_dir };
	*ret_lost = 0;
	r = file_read_at(run_dir, MODES_FILE, OVERRIDES_SIZE_MAX, &text, &size);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return overrides_parse(text, size, &modes->overrides, ret_lost);
}

void modes_done(struct modes *modes)
{
	overrides_done(&modes->overrides);
}

/* The file first: what is said to hold must outlive us. Takes the contents of `overrides` on success. */
static int replace(struct modes *modes, struct overrides *overrides)
{
	_cleanup_free_ char *text = overrides_text(overrides);
	int r;

	if (!text)
		return -ENOMEM;
	if (strlen(text) > OVERRIDES_SIZE_MAX) /* nobody would read it */
		return -E2BIG;
	r = file_replace(modes->run_dir, MODES_FILE, text, strlen(text));
	if (r < 0)
		return r;
	overrides_done(&modes->overrides);
	modes->overrides = *overrides;
	*overrides = (struct overrides){ 0 };
	return 0;
}

int modes_forget(struct modes *modes)
{
	struct overrides none = { 0 };

	return replace(modes, &none);
}

/* Not from those that it was given to, and that are called otherwise by now. */
static int take_name(struct overrides *overrides, const struct tunnels *tunnels, const char *name,
	const char *ifname, bool *ret_found)
{
	for (size_t i = 0; overrides_has(overrides, name, ifname) && i < tunnels->n; i++) {
		const struct tunnel *tunnel = &tunnels->list[i];
		int r = 0;

		if (strcmp(tunnel->link->name, ifname) == 0)
			r = overrides_move(overrides, name, ifname, tunnel->netns);
		if (r < 0)
			return r;
	}
	*ret_found = overrides_remove(overrides, name, ifname) || *ret_found;
	return 0;
}

/* Under whatever name it was given. */
static int take_back(struct overrides *overrides, const struct tunnels *tunnels,
	const struct tunnel *tunnel, bool *ret_found)
{
	const struct netns *netns = tunnel->netns;
	const char *ifname = tunnel->link->name;
	int r = 0;

	*ret_found = overrides_find(overrides, netns, tunnel->link) || *ret_found;
	overrides_take_from(overrides, netns->seq, ifname);
	for (size_t i = 0; r == 0 && i < netns->n_names; i++)
		r = take_name(overrides, tunnels, netns->names[i], ifname, ret_found);
	return r < 0 ? r : take_name(overrides, tunnels, netns_label(netns), ifname, ret_found);
}

static bool is_meant(const struct tunnel *tunnel, const char *netns, const char *ifname)
{
	return strcmp(tunnel->link->name, ifname) == 0 && override_is_about(netns, tunnel->netns);
}

static int give(struct overrides *overrides, const struct tunnel *tunnel, enum maps_mode mode,
	bool until_reload)
{
	const char *label = netns_label(tunnel->netns), *ifname = tunnel->link->name;
	int r = overrides_set(overrides, label, ifname, mode, until_reload);

	return r < 0 ? r : overrides_give(overrides, label, ifname, tunnel->netns->seq);
}

int modes_set(struct modes *modes, const struct tunnels *tunnels, const char *netns,
	const char *ifname, const enum maps_mode *mode, bool until_reload, size_t *ret_n)
{
	_cleanup_(overrides_done) struct overrides overrides = { 0 };
	bool found = false;
	size_t n = 0;
	int r;

	r = overrides_copy(&modes->overrides, &overrides);
	if (r == 0)
		r = take_name(&overrides, tunnels, netns, ifname, &found);
	/* From all before it is given to any: they may have one name. */
	for (size_t i = 0; r == 0 && i < tunnels->n; i++) {
		if (!is_meant(&tunnels->list[i], netns, ifname))
			continue;
		n++;
		r = take_back(&overrides, tunnels, &tunnels->list[i], &found);
	}
	for (size_t i = 0; r == 0 && mode && i < tunnels->n; i++)
		if (is_meant(&tunnels->list[i], netns, ifname))
			r = give(&overrides, &tunnels->list[i], *mode, until_reload);
	if (r < 0)
		return r;
	if (n == 0 && (mode || !found))
		return -ENOENT;
	r = replace(modes, &overrides);
	if (r < 0)
		return r;
	*ret_n = n;
	return 0;
}

int modes_reloaded(struct modes *modes)
{
	_cleanup_(overrides_done) struct overrides overrides = { 0 };
	int r;

	r = overrides_copy(&modes->overrides, &overrides);
	if (r < 0)
		return r;
	overrides_drop_until_reload(&overrides);
	return overrides.n == modes->overrides.n ? 0 : replace(modes, &overrides);
}
