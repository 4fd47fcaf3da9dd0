"""The analytic two-node building: a Predictor whose answers can be checked with pencil and paper.

Two temperatures, two resistances to the outside and one between them:

    C_a dT_a/dt = H_out (T_o - T_a) + H_sup (T_sup - T_a) + H_am (T_m - T_a) + g_a + Q      air and light things
    C_m dT_m/dt = H_am (T_a - T_m) + H_wall (T_o - T_m) + g_m                               mass behind insulation

H_out is windows and infiltration, H_sup the stream of supply air that runs while the system is on. Q is the ideal heating or
cooling that brings the air to its setpoint at the end of the hour, within the capacities. All inputs are constant over an
hour, so the 2x2 system is solved exactly by its matrix exponential, and hourly means are exact integrals. CO2 and water
vapour are first-order balances, solved exactly as well.

The air system in one paragraph: while on, a stream of 5.4 m3/h.m2 passes a gas coil and a cooling coil that bring it to
`supply_air_temperature`; `outdoor_air_flow` of it is outdoor air, the rest returns from the zone. What the zone needs beyond
that is electric reheat, or cooling by more air of the same temperature. While off there is no stream and no outdoor air; the
zone is still held between its setpoints by night cycling, as in the medium office. Infiltration falls to a quarter while the
fans run. Left out on purpose: economiser, fan heat, dehumidification by the additional cooling air, radiation between
surfaces.

Legend of shapes: b batch, t time, c channel. Energies in Wh, times in h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from building.description import Building
from building.errors import MissingColumnError
from building.predictor import GivenPast, Predictor, check_batch
from building.scenario import Scenario
from building.variables import Signature

Array = NDArray[np.float64]

AIR_HEAT = 0.335  # Wh/m3.K: 1.2 kg/m3 * 1006 J/kg.K / 3600
AIR_DENSITY = 1.2  # kg/m3
VAPOUR_HEAT = 694.0  # Wh/kg: 2.5 MJ/kg
PRESSURE_PA = 101325.0

# Per m2 of floor.
AIR_NODE_CAPACITY = 5.0  # Wh/m2.K, air and light furniture
MASS_NODE_CAPACITY = 45.0  # Wh/m2.K at internal_mass = 1
AIR_TO_MASS = 10.0  # W/m2.K
WALL_CONDUCTANCE = 0.38  # W/m2.K at wall_insulation = 1
WINDOW_AREA = 0.15  # m2/m2
STREAM_FLOW = 5.4  # m3/h.m2, a VAV system at 30 % of 18
LIGHTING = 10.76  # W/m2
HEATING_CAPACITY = 60.0  # W/m2 at heating_capacity = 1
COOLING_CAPACITY = 80.0  # W/m2

INFILTRATION_ACH = 0.3  # 1/h at infiltration = 1
INFILTRATION_WHILE_ON = 0.25  # share left under the pressure of the fans
BEAM_INCIDENCE = 0.3  # share of the direct normal irradiance that a mean facade sees
SKY_VIEW = 0.5  # of a vertical facade

PERSON_HEAT = 75.0  # W sensible
PERSON_VAPOUR = 0.065  # kg/h
PERSON_CO2 = 0.0165  # m3/h, 120 W at 3.82e-8 m3/s.W
PERSON_HOT_WATER = 40.0  # W of gas
GAINS_TO_AIR = 0.5  # of people, lights and plugs; the rest is radiation on the mass
SOLAR_TO_AIR = 0.2

FAN_EFFICIENCY = 0.6
COIL_APPARATUS_RH = 0.95  # relative humidity behind a wet coil
HEATING_AIR_EXCESS_K = 20.0  # supply over zone temperature when night cycling heats
LEAST_COOLING_AIR_K = 4.0  # least zone over supply temperature assumed for the flow of additional cooling air

INPUTS = (
    "outdoor_air_temperature", "outdoor_air_humidity_ratio", "direct_normal_irradiance", "diffuse_horizontal_irradiance",
    "occupancy_share", "lighting_share", "plug_share",
    "infiltration", "internal_mass", "wall_insulation", "window_u_factor", "window_shgc", "occupant_density",
    "equipment_power_density", "heating_capacity",
    "heating_setpoint", "cooling_setpoint", "system_on", "outdoor_air_flow", "supply_air_temperature",
)  # fmt: skip
"""What the equations read; a building may declare them in any order."""


@dataclass(frozen=True)
class TwoNodes:
    """The coefficients of the balance over one hour, each of shape (batch, time); W, W/K, Wh/K."""

    air_capacity: Array
    mass_capacity: Array
    out_conductance: Array  # windows, infiltration
    supply_conductance: Array
    wall_conductance: Array
    air_to_mass: Array
    outdoor_temperature: Array
    supply_temperature: Array
    air_gain: Array
    mass_gain: Array


@dataclass(frozen=True)
class Trajectory:
    """Temperatures and heat. `air_end` and `mass_end` are states at the end of each hour, `air_mean`, `mass_mean` exact
    hourly means.

    Shapes (batch, time), but `air_start` and `mass_start` (batch,). `heat` [W] is positive for heating, negative for cooling.
    """

    air_start: Array
    mass_start: Array
    air_end: Array
    mass_end: Array
    air_mean: Array
    mass_mean: Array
    heat: Array


def propagators(nodes: TwoNodes) -> tuple[Array, Array, Array]:
    """Return the exact one-hour propagators of dx/dt = A x + s, x = (T_a, T_m), s constant.

    x(1) = E x(0) + P s and mean(x) = P x(0) + R s, with E = exp(A), P = A^-1 (E - 1), R = A^-1 (P - 1). The eigenvalues of A
    are real and distinct because its off-diagonal entries are positive; exp(A) follows from Sylvester's formula exp(A) =
    (e^l1 (A - l2) - e^l2 (A - l1)) / (l1 - l2).

    Returns:
        E, P, R, each of shape (batch, time, 2, 2).
    """
    a = -(nodes.out_conductance + nodes.supply_conductance + nodes.air_to_mass) / nodes.air_capacity
    b = nodes.air_to_mass / nodes.air_capacity
    c = nodes.air_to_mass / nodes.mass_capacity
    d = -(nodes.air_to_mass + nodes.wall_conductance) / nodes.mass_capacity
    a_ = np.stack([np.stack([a, b], -1), np.stack([c, d], -1)], -2)
    root = np.sqrt((a - d) ** 2 + 4 * b * c)
    l1, l2 = (a + d + root) / 2, (a + d - root) / 2
    eye = np.eye(2)
    e1, e2, l1, l2, root = (v[..., None, None] for v in (np.exp(l1), np.exp(l2), l1, l2, root))
    e = (e1 * (a_ - l2 * eye) - e2 * (a_ - l1 * eye)) / root
    determinant = a * d - b * c
    inverse = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2) / determinant[..., None, None]
    p = inverse @ (e - eye)
    return e, p, inverse @ (p - eye)


def solve_two_nodes(
    nodes: TwoNodes,
    start: tuple[Array, Array],
    heating_setpoint: Array,
    cooling_setpoint: Array,
    heating_capacity: Array,
    cooling_capacity: Array,
) -> Trajectory:
    """Solve the two-node balance hour by hour, with ideal heating and cooling.

    The air temperature at the end of an hour is linear in Q, T_a(1) = free + P_00 Q / C_a; Q is what brings it to the
    setpoint it would otherwise overstep, within the capacities.

    Args:
        nodes: coefficients, shape (batch, time).
        start: air and mass temperature before the first hour, each of shape (batch,).
        heating_setpoint, cooling_setpoint: [degC], shape (batch, time).
        heating_capacity, cooling_capacity: [W], both positive, shape (batch, time).
    """
    e, p, r = propagators(nodes)
    source_a = (
        nodes.out_conductance * nodes.outdoor_temperature + nodes.supply_conductance * nodes.supply_temperature + nodes.air_gain
    ) / nodes.air_capacity
    source_m = (nodes.wall_conductance * nodes.outdoor_temperature + nodes.mass_gain) / nodes.mass_capacity
    # What does not depend on the state is made for all hours at once; time leads so that the loop reads contiguous rows.
    s = np.stack([source_a, source_m], -1)[..., None]
    end_of_sources = np.moveaxis((p @ s)[..., 0], 1, 0)
    mean_of_sources = np.moveaxis((r @ s)[..., 0], 1, 0)
    e, p, r = (np.moveaxis(m, 1, 0) for m in (e, p, r))
    end_per_watt = p[..., 0] / nodes.air_capacity.T[..., None]
    mean_per_watt = r[..., 0] / nodes.air_capacity.T[..., None]
    heating_t, cooling_t = heating_setpoint.T, cooling_setpoint.T
    most, least = heating_capacity.T, -cooling_capacity.T

    n_steps, n_batch = source_a.shape[1], source_a.shape[0]
    end, mean, heat = np.empty((n_steps, n_batch, 2)), np.empty((n_steps, n_batch, 2)), np.empty((n_steps, n_batch))
    x = np.stack(start, -1)
    for t in range(n_steps):
        before = x
        x = e[t, :, :, 0] * before[:, :1] + e[t, :, :, 1] * before[:, 1:] + end_of_sources[t]
        free = x[:, 0]
        target = np.minimum(np.maximum(free, heating_t[t]), cooling_t[t])
        q = np.minimum(np.maximum((target - free) / end_per_watt[t, :, 0], least[t]), most[t])
        x = x + q[:, None] * end_per_watt[t]
        mean[t] = (
            p[t, :, :, 0] * before[:, :1] + p[t, :, :, 1] * before[:, 1:] + mean_of_sources[t] + q[:, None] * mean_per_watt[t]
        )
        end[t], heat[t] = x, q
    return Trajectory(
        np.asarray(start[0]), np.asarray(start[1]), end[..., 0].T, end[..., 1].T, mean[..., 0].T, mean[..., 1].T, heat.T
    )


def solve_first_order(rate: Array, source: Array, start: Array) -> tuple[Array, Array]:
    """Solve dx/dt = source - rate x exactly for piecewise constant inputs.

    Args:
        rate: [1/h], positive, shape (batch, time).
        source: [unit of x per h], shape (batch, time).
        start: shape (batch,).

    Returns:
        Value at the end of each hour and mean over it, shape (batch, time).
    """
    decay = np.exp(-rate)
    steady = source / rate
    end = np.empty_like(rate)
    x = start
    for t in range(rate.shape[1]):
        x = steady[:, t] + (x - steady[:, t]) * decay[:, t]
        end[:, t] = x
    before = np.concatenate([start[:, None], end[:, :-1]], axis=1)
    return end, steady + (before - steady) * (1 - decay) / rate


def saturation_humidity_ratio(temperature: Array) -> Array:
    """Return the humidity ratio of saturated air at sea level [kg/kg]; Magnus form of Alduchov and Eskridge (1996), J. Appl.
    Meteor. 35.

    Args:
        temperature: [degC].
    """
    vapour_pa = 610.94 * np.exp(17.625 * temperature / (temperature + 243.04))
    return np.asarray(0.622 * vapour_pa / (PRESSURE_PA - vapour_pa))


class RcPredictor:
    """The two-node building as a Predictor.

    Before the first hour the nodes stand midway between the setpoints and the air inside is that outside; the usual week of
    warm-up forgets it.
    """

    def __init__(self, building: Building) -> None:
        """Take area, volume, outdoor CO2, reference COP and fan pressure from `building`.

        Raises:
            MissingColumnError: the building does not declare one of `INPUTS`.
        """
        missing = [n for n in INPUTS if n not in building.inputs]
        if missing:
            raise MissingColumnError(
                what=f"the signature of {building.name}", n_missing=len(missing), n_wanted=len(INPUTS), missing=", ".join(missing)
            )
        self.building = building
        self._area = building.floor_area
        self._volume = sum(z.volume * z.multiplier for z in building.zones)
        self._zone = building.zones[0].name

    @property
    def inputs(self) -> Signature:
        """Channels of a scenario."""
        return self.building.inputs

    @property
    def outputs(self) -> Signature:
        """Channels of a response."""
        return self.building.outputs

    def given(self, past: Scenario) -> Predictor:
        """Put `past` before every future."""
        return GivenPast(self, past)

    def balance(self, x_btc: Array) -> tuple[TwoNodes, Trajectory]:
        """Return the coefficients and the solved temperatures of a batch, shape (batch, time, inputs)."""
        v = self._channels(x_btc)
        nodes = self._nodes(v)
        start = (v["heating_setpoint"][:, 0] + v["cooling_setpoint"][:, 0]) / 2
        trajectory = solve_two_nodes(
            nodes,
            (start, start),
            v["heating_setpoint"],
            v["cooling_setpoint"],
            HEATING_CAPACITY * self._area * v["heating_capacity"],
            np.full_like(v["heating_capacity"], COOLING_CAPACITY * self._area),
        )
        return nodes, trajectory

    def predict(self, x_btc: Array) -> Array:
        """Predict a batch of scenarios, shape (batch, time, inputs) -> (batch, time, outputs). Raises ShapeError."""
        check_batch(x_btc, self.inputs)
        x_btc = np.asarray(x_btc, dtype=np.float64)
        out = np.zeros((*x_btc.shape[:2], len(self.outputs)))
        if out.size == 0:
            return out
        v = self._channels(x_btc)
        _, rooms = self.balance(x_btc)
        on = v["system_on"]
        outdoor_flow = on * np.minimum(v["outdoor_air_flow"], STREAM_FLOW) * self._area  # m3/h
        stream_flow = on * STREAM_FLOW * self._area
        people = v["occupant_density"] * v["occupancy_share"] * self._area

        t_mixed = rooms.air_mean + v["outdoor_air_flow"].clip(0, STREAM_FLOW) / STREAM_FLOW * (
            v["outdoor_air_temperature"] - rooms.air_mean
        )
        stream_heat = AIR_HEAT * stream_flow * (v["supply_air_temperature"] - t_mixed)
        reheat = np.maximum(rooms.heat, 0.0)
        room_cooling = np.maximum(-rooms.heat, 0.0)
        humidity, vapour_removed = self._humidity(v, outdoor_flow, stream_flow, people)
        cooling = np.maximum(-stream_heat, 0.0) + room_cooling + VAPOUR_HEAT * vapour_removed

        cooling_air = room_cooling / (AIR_HEAT * np.maximum(rooms.air_mean - v["supply_air_temperature"], LEAST_COOLING_AIR_K))
        heating_air = (1 - on) * reheat / (AIR_HEAT * HEATING_AIR_EXCESS_K)
        fan_w_per_m3h = self.building.efficiency.reference_fan_pressure / FAN_EFFICIENCY / 3600
        fan = fan_w_per_m3h * (stream_flow + cooling_air + heating_air)
        compressor = cooling / self.building.efficiency.reference_cooling_cop
        lights_and_plugs = self._area * (LIGHTING * v["lighting_share"] + v["equipment_power_density"] * v["plug_share"])

        answers = {
            f"{self._zone}_air_temperature": rooms.air_mean,
            f"{self._zone}_co2": self._co2(v, outdoor_flow, people),
            "mean_humidity_ratio": humidity,
            "gas_coil_heat": np.maximum(stream_heat, 0.0),
            "electric_reheat_heat": reheat,
            "coil_cooling": cooling,
            "cooling_electricity": compressor,
            "fan_electricity": fan,
            "facility_electricity": lights_and_plugs + fan + compressor + reheat,
            "hot_water_gas": PERSON_HOT_WATER * people,
        }
        for name, value in answers.items():
            out[..., self.outputs.position(name)] = value
        return out

    def _channels(self, x_btc: Array) -> dict[str, Array]:
        return {name: x_btc[..., self.inputs.position(name)] for name in INPUTS}

    def _infiltration_flow(self, v: dict[str, Array]) -> Array:
        pressed = 1 - (1 - INFILTRATION_WHILE_ON) * v["system_on"]
        return np.asarray(INFILTRATION_ACH * self._volume * v["infiltration"] * pressed)  # m3/h

    def _nodes(self, v: dict[str, Array]) -> TwoNodes:
        whole = np.full_like(v["system_on"], self._area)
        irradiance = BEAM_INCIDENCE * v["direct_normal_irradiance"] + SKY_VIEW * v["diffuse_horizontal_irradiance"]
        solar = WINDOW_AREA * whole * v["window_shgc"] * irradiance
        inside = whole * (
            PERSON_HEAT * v["occupant_density"] * v["occupancy_share"]
            + LIGHTING * v["lighting_share"]
            + v["equipment_power_density"] * v["plug_share"]
        )
        return TwoNodes(
            air_capacity=AIR_NODE_CAPACITY * whole,
            mass_capacity=MASS_NODE_CAPACITY * whole * v["internal_mass"],
            out_conductance=WINDOW_AREA * whole * v["window_u_factor"] + AIR_HEAT * self._infiltration_flow(v),
            supply_conductance=AIR_HEAT * STREAM_FLOW * whole * v["system_on"],
            wall_conductance=WALL_CONDUCTANCE * whole / v["wall_insulation"],
            air_to_mass=AIR_TO_MASS * whole,
            outdoor_temperature=v["outdoor_air_temperature"],
            supply_temperature=v["supply_air_temperature"],
            air_gain=SOLAR_TO_AIR * solar + GAINS_TO_AIR * inside,
            mass_gain=(1 - SOLAR_TO_AIR) * solar + (1 - GAINS_TO_AIR) * inside,
        )

    def _co2(self, v: dict[str, Array], outdoor_flow: Array, people: Array) -> Array:
        rate = (outdoor_flow + self._infiltration_flow(v)) / self._volume
        outdoor = np.full_like(rate, self.building.site.outdoor_co2)
        source = rate * outdoor + 1e6 * PERSON_CO2 * people / self._volume
        return solve_first_order(rate, source, outdoor[:, 0])[1]

    def _humidity(self, v: dict[str, Array], outdoor_flow: Array, stream_flow: Array, people: Array) -> tuple[Array, Array]:
        """Return the hourly mean humidity ratio [kg/kg] and the vapour the coil takes out [kg/h].

        Whether the coil is wet is asked once an hour, from the air as it is mixed when the hour begins.
        """
        outdoor = v["outdoor_air_humidity_ratio"]
        leak, fresh, stream = (flow / self._volume for flow in (self._infiltration_flow(v), outdoor_flow, stream_flow))
        people_source = PERSON_VAPOUR * people / (AIR_DENSITY * self._volume)
        fresh_share = np.divide(fresh, stream, out=np.zeros_like(fresh), where=stream > 0)
        behind_coil = COIL_APPARATUS_RH * saturation_humidity_ratio(v["supply_air_temperature"])
        rates = (
            leak + fresh,
            leak + stream,
        )  # dry coil: the stream only brings outdoor air; wet coil: it brings air of `behind_coil`
        steadies = (
            ((leak + fresh) * outdoor + people_source) / rates[0],
            (leak * outdoor + stream * behind_coil + people_source) / rates[1],
        )
        decays = (np.exp(-rates[0]), np.exp(-rates[1]))
        mean, wet = np.empty_like(outdoor), np.empty(outdoor.shape, dtype=bool)
        x = outdoor[:, 0]
        for t in range(outdoor.shape[1]):
            mixed = x + fresh_share[:, t] * (outdoor[:, t] - x)
            wet[:, t] = (stream[:, t] > 0) & (mixed > behind_coil[:, t])
            steady, decay, rate = (np.where(wet[:, t], b[:, t], a[:, t]) for a, b in (steadies, decays, rates))
            mean[:, t] = steady + (x - steady) * (1 - decay) / rate
            x = steady + (x - steady) * decay
        mixed = mean + fresh_share * (outdoor - mean)
        removed = wet * AIR_DENSITY * stream_flow * np.maximum(mixed - behind_coil, 0.0)
        return mean, removed
