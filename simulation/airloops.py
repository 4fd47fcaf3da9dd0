"""Air loops of a model, followed along its nodes: which zones a loop serves, through which terminals, under which controllers.

Names in a model mean nothing to the engine; nodes do. Comparison is without case, as the engine compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from building.errors import BadEpjsonError
from simulation.epjson import Epjson


@dataclass(frozen=True)
class AirLoop:
    """One air loop.

    Attributes:
        name: of the AirLoopHVAC.
        zones: names in the model of the zones it serves, lower case, in the order of its splitter.
        terminals: (object type, name) of its air terminals, same order.
        controllers: names of its Controller:OutdoorAir.
        components: (object type, name) of what stands on its supply branches.
        supply_nodes: the nodes its supply air leaves by, lower case.
    """

    name: str
    zones: tuple[str, ...]
    terminals: tuple[tuple[str, str], ...]
    controllers: tuple[str, ...]
    components: tuple[tuple[str, str], ...]
    supply_nodes: tuple[str, ...]


def air_loops(epjson: Epjson) -> list[AirLoop]:
    """Follow every AirLoopHVAC from its supply branches to its zones.

    Raises:
        BadEpjsonError: a loop that leads nowhere, or through something unknown to this file; the object is named.
    """
    return [_follow(epjson, name, loop) for name, loop in epjson.get("AirLoopHVAC", {}).items()]


def _follow(epjson: Epjson, name: str, loop: dict[str, Any]) -> AirLoop:
    components = list(_components(epjson, loop))
    controllers: list[str] = []
    for kind, component in components:
        if kind == "AirLoopHVAC:OutdoorAirSystem":
            listed = find(epjson, kind, component).get("controller_list_name", "")
            controllers += _listed(find(epjson, "AirLoopHVAC:ControllerList", listed), "controller", "Controller:OutdoorAir")
    outlets = set()
    for inlet in nodes(epjson, loop["demand_side_inlet_node_names"]):
        outlets |= _split(epjson, inlet)
    terminals, zones = [], []
    for kind, terminal, fields in _terminals(epjson):
        if str(fields.get("air_inlet_node_name", "")).lower() in outlets:
            terminals.append((kind, terminal))
            zones.append(_zone_at(epjson, str(fields["air_outlet_node_name"]).lower(), name))
    if not zones:
        raise _broken("AirLoopHVAC", name, "no air terminal stands on its supply path.")
    supply = tuple(nodes(epjson, loop["supply_side_outlet_node_names"]))
    return AirLoop(name, tuple(zones), tuple(terminals), tuple(controllers), tuple(components), supply)


def find(epjson: Epjson, object_type: str, name: str) -> dict[str, Any]:
    """Return an object by name, without case.

    Raises:
        BadEpjsonError: there is none.
    """
    for own, fields in epjson.get(object_type, {}).items():
        if own.lower() == str(name).lower():
            return fields
    raise _broken(object_type, name, "it is named, but not defined.")


def _broken(object_type: str, name: str, reason: str) -> BadEpjsonError:
    return BadEpjsonError(file="the model", object_type=object_type, object_name=name, reason=reason, hint="")


def nodes(epjson: Epjson, node_or_list: str) -> list[str]:
    """Return the nodes of a node list, or the one node, lower case."""
    for name, fields in epjson.get("NodeList", {}).items():
        if name.lower() == str(node_or_list).lower():
            return [str(n["node_name"]).lower() for n in fields["nodes"]]
    return [str(node_or_list).lower()]


def _components(epjson: Epjson, loop: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for branch in find(epjson, "BranchList", loop["branch_list_name"])["branches"]:
        for c in find(epjson, "Branch", branch["branch_name"])["components"]:
            yield c["component_object_type"], c["component_name"]


def _listed(fields: dict[str, Any], what: str, object_type: str) -> list[str]:
    """Return the names of one type in an object of numbered pairs (``controller_1_name``, ``controller_1_object_type``)."""
    pairs = ((fields.get(f"{what}_{i}_object_type"), fields.get(f"{what}_{i}_name")) for i in range(1, 9))
    return [str(name) for kind, name in pairs if kind == object_type]


def _split(epjson: Epjson, inlet: str) -> set[str]:
    """Return the nodes a supply path ends in, past splitters and plenums."""
    path = {"AirLoopHVAC:ZoneSplitter": "inlet_node_name", "AirLoopHVAC:SupplyPlenum": "inlet_node_name"}
    for kind, field in path.items():
        for fields in epjson.get(kind, {}).values():
            if str(fields.get(field, "")).lower() == inlet:
                outlets = {str(n["outlet_node_name"]).lower() for n in fields["nodes"]}
                return set().union(*(_split(epjson, node) for node in outlets))
    return {inlet}


def _terminals(epjson: Epjson) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield type, name and fields of every air terminal, in the order of the model."""
    for kind, objects in epjson.items():
        if kind.startswith("AirTerminal:"):
            for name, fields in objects.items():
                yield kind, name, fields


def _zone_at(epjson: Epjson, node: str, loop: str) -> str:
    """Return the zone an air terminal blows into."""
    for fields in epjson.get("ZoneHVAC:EquipmentConnections", {}).values():
        if node in nodes(epjson, fields.get("zone_air_inlet_node_or_nodelist_name", "")):
            return str(fields["zone_name"]).lower()
    raise _broken("AirLoopHVAC", loop, f"its terminal blows into node '{node}', which belongs to no zone.")
