/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the hypervisors that read OVF want to see, and what they refuse. One table row each.
 * Sources: doc/formats/ovf.md.
 */
#pragma once
#include "bundle/machine.h"

struct vmimg_ovf_dialect {
	const char *target; /* as the command line has it: "ova-vmware" */
	const char *family; /* vssd:VirtualSystemType */
	const char *hash;   /* of the manifest */
	enum vmimg_bus bus; /* of disks, when nothing is said */
	bool vmware_config; /* firmware and the like as vmw:Config */
	bool virtualbox_os; /* the guest as vbox:OSType */
	bool family_vmx;    /* wants a vmx-NN family */
	bool family_virtualbox;
};

/* NULL: ova-generic. NULL is returned for a target that is not known. */
const struct vmimg_ovf_dialect *vmimg_ovf_dialect(const char *target);

struct vmimg_ovf_os {
	const char *name; /* ours: "debian" */
	unsigned id;      /* CIM_OperatingSystem.OsType */
	const char *vmware, *virtualbox, *text;
};
/* By our name, by VMware's or VirtualBox's, or (hint NULL) by the number; NULL: not in the table.
 */
const struct vmimg_ovf_os *vmimg_ovf_os(const char *hint, unsigned id);

/* The controller model written for a bus, and its resource type. */
const char *vmimg_ovf_model(const struct vmimg_ovf_dialect *dialect, enum vmimg_bus bus);
unsigned vmimg_ovf_resource_type(enum vmimg_bus bus);
/* How many drives a controller of that bus takes, and the unit of the nth. */
unsigned vmimg_ovf_units(enum vmimg_bus bus);
unsigned vmimg_ovf_unit_number(enum vmimg_bus bus, unsigned nth);
