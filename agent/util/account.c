/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>
#include <unistd.h>

#include "agent/util/account.h"

#define RECORD_MAX 16384 /* of a line in passwd or group */

static int find_user(uid_t *ret)
{
	struct passwd record, *found;
	char buf[RECORD_MAX];
	int r = getpwnam_r(ACCOUNT_NAME, &record, buf, sizeof(buf), &found);

	if (r != 0)
		return -r;
	if (!found)
		return -ENOENT;
	*ret = found->pw_uid;
	return 0;
}

int account_find_group(gid_t *ret)
{
	struct group record, *found;
	char buf[RECORD_MAX];
	int r = getgrnam_r(ACCOUNT_NAME, &record, buf, sizeof(buf), &found);

	if (r != 0)
		return -r;
	if (!found)
		return -ENOENT;
	*ret = found->gr_gid;
	return 0;
}

int account_find(struct account *ret)
{
	struct account account;
	int r;

	r = find_user(&account.uid);
	if (r == 0)
		r = account_find_group(&account.gid);
	if (r < 0)
		return r;
	*ret = account;
	return 0;
}

bool account_is_trusted(uid_t uid)
{
	uid_t own;

	return uid == 0 || uid == geteuid() || (find_user(&own) == 0 && uid == own);
}
