/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/modes.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"

#define MODES_FILE "modes.json"

int modes_load(struct modes *modes, int run_dir)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r;

	*modes = (struct modes){ .run_dir = run_dir };
	r = file_read_at(run_dir, MODES_FILE, OVERRIDES_SIZE_MAX, &text, &size);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return overrides_parse(text, size, &modes->overrides);
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
	r = file_replace(modes->run_dir, MODES_FILE, text, strlen(text));
	if (r < 0)
		return r;
	overrides_done(&modes->overrides);
	modes->overrides = *overrides;
	*overrides = (struct overrides){ 0 };
	return 0;
}

/* Under whatever name it was given. */
static bool take_back(struct overrides *overrides, const struct tunnel *tunnel)
{
	const struct mode_override *override;
	bool found = false;

	while ((override = overrides_find(overrides, tunnel->netns, tunnel->link))) {
		/* Its name is its own, and goes with it. */
		char *netns = strdupa(override->netns);

		found |= overrides_remove(overrides, netns, tunnel->link->name);
	}
	return found;
}

int modes_set(struct modes *modes, const struct tunnels *tunnels, const char *netns,
	const char *ifname, const enum maps_mode *mode, bool until_reload, size_t *ret_n)
{
	_cleanup_(overrides_done) struct overrides overrides = { 0 };
	bool found;
	size_t n = 0;
	int r;

	r = overrides_copy(&modes->overrides, &overrides);
	if (r < 0)
		return r;
	found = overrides_remove(&overrides, netns, ifname);
	for (size_t i = 0; i < tunnels->n; i++) {
		const struct tunnel *tunnel = &tunnels->list[i];

		if (strcmp(tunnel->link->name, ifname) != 0 ||
			!override_is_about(netns, tunnel->netns))
			continue;
		n++;
		found |= take_back(&overrides, tunnel);
		if (!mode)
			continue;
		r = overrides_set(
			&overrides, netns_label(tunnel->netns), ifname, *mode, until_reload);
		if (r < 0)
			return r;
	}
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
