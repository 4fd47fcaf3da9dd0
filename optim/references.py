"""What a plan is compared with: the building's own schedule, that schedule raised to the renewal limit, good-practice rules."""

from __future__ import annotations

import numpy as np

from building.plan import Plan
from optim.decisions import Array, Decisions
from optim.outlook import Outlook

GOOD_PRACTICE = {
    "lead_cold_h": 3.0,
    "lead_mild_h": 1.0,
    "lead_break_h": 1.0,
    "purge_h": 0.0,
    "heating_offset_k": 0.5,
    "cooling_offset_k": -0.5,
    "setback_k": 4.0,
    "setup_k": 3.0,
    "supply_cold": 16.0,
    "supply_mild": 16.0,
    "supply_warm": 12.8,
    "air_factor": 1.0,
    "air_floor": 0.0,
}
"""Rules in the manner of ASHRAE Guideline 36-2021: occupied modes by actual occupancy with a warm-up and cool-down before it,
supply air reset by outdoor temperature between 12.8 degC when warm and 16 when not, ventilation by occupancy. Setpoints half a
kelvin inside the seasonal comfort band. Simplified: no trim-and-respond, no learned start, one set of values for all zones."""


def own_plan(outlook: Outlook) -> Plan:
    """Return the building's own schedule over the outlook: the settings its future scenario came with."""
    frame = outlook.future.frame()[list(outlook.settings.names)]
    return Plan(frame, origin="own")


def raised_plan(outlook: Outlook, own: Plan) -> tuple[Plan, str]:
    """Return `own` raised to the renewal owed while occupied, and a note that says what was raised; "" when nothing was.

    Where people are and the system is off or gives too little outdoor air, it is switched on and gives what is owed. A building
    without the settings ``system_on`` and ``outdoor_air_flow`` is left alone.
    """
    names = ("system_on", "outdoor_air_flow")
    if not set(names) <= set(own.frame.columns):
        return own, ""
    per_hour = 60 // own.step_min
    owed = np.repeat(outlook.renewal_t, per_hour)
    on, flow = (own.frame[n].to_numpy(dtype=float) for n in names)
    short = on * flow < owed - 1e-6
    if not short.any():
        return own, ""
    frame = own.frame.copy()
    frame["system_on"] = np.where(short, 1.0, on)
    # Flow counts while on only: a half-run hour that was short now runs whole.
    frame["outdoor_air_flow"] = np.where(short, np.maximum(owed, on * flow), flow)
    hours = short.sum() / per_hour
    missing = (owed - on * flow)[short].mean()
    note = f"raised to the minimum air renewal in {hours:g} occupied hours, by {missing:.2f} m3/h.m2 on average"
    return Plan(frame, "own", own.issued, {**own.meta, "raised_h": float(hours)}), note


def rules_plan(decisions: Decisions) -> Plan:
    """Return what good practice would do without any optimiser: `GOOD_PRACTICE` unrolled over the outlook."""
    plans_nts = decisions.unroll(decisions.vector(GOOD_PRACTICE)[None])
    return decisions.plan(plans_nts[0], "rules", {"decisions": dict(GOOD_PRACTICE)})


def nearest_vector(decisions: Decisions, own: Plan) -> Array:
    """Return the decision vector whose plan is most like `own`, in the unit cube: where a search should begin.

    Setpoints by their medians while running and while off, supply air by its median, outdoor air by its floor and lead by the
    hours the system runs before people come.
    """
    outlook = decisions.outlook
    frame = own.hourly()
    series = {str(n): frame[n].to_numpy(dtype=float) for n in frame.columns}
    on = series["system_on"] > 0.5 if "system_on" in series else outlook.is_occupied_t
    occupied = outlook.is_occupied_t
    named: dict[str, float] = {"purge_h": 0.0, "air_factor": 1.0}
    if on.any():
        if "heating_setpoint" in series:
            named["heating_offset_k"] = float(np.median((series["heating_setpoint"] - outlook.low_t)[on]))
        if "cooling_setpoint" in series:
            named["cooling_offset_k"] = float(np.median((series["cooling_setpoint"] - outlook.high_t)[on]))
        if "outdoor_air_flow" in series:
            named["air_floor"] = float(np.median(series["outdoor_air_flow"][on]))
    if on.any() and (~on).any():
        for name, key, sign in (("heating_setpoint", "setback_k", -1.0), ("cooling_setpoint", "setup_k", 1.0)):
            if name in series:
                named[key] = sign * float(np.median(series[name][~on]) - np.median(series[name][on]))
    if "supply_air_temperature" in series:
        supply = float(np.median(series["supply_air_temperature"]))
        named |= {"supply_cold": supply, "supply_mild": supply, "supply_warm": supply}
    starts = max(1, int((occupied & ~np.concatenate([[False], occupied[:-1]])).sum()))
    ahead = float((on & ~occupied).sum()) / starts
    named |= {"lead_cold_h": ahead, "lead_mild_h": ahead, "lead_break_h": 0.0}
    return decisions.vector(named)
