SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.calibrations (
    id integer NOT NULL,
    made bigint NOT NULL,
    state character varying NOT NULL,
    json text NOT NULL
);
CREATE SEQUENCE public.calibrations_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.calibrations_id_seq OWNED BY public.calibrations.id;
CREATE TABLE public.forecasts (
    variable character varying NOT NULL,
    stamp bigint NOT NULL,
    issued bigint NOT NULL,
    value double precision NOT NULL
);
CREATE TABLE public.fronts (
    id integer NOT NULL,
    made bigint NOT NULL,
    state character varying NOT NULL,
    json text NOT NULL
);
CREATE SEQUENCE public.fronts_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.fronts_id_seq OWNED BY public.fronts.id;
CREATE TABLE public.jobs (
    id integer NOT NULL,
    kind character varying NOT NULL,
    started bigint NOT NULL,
    ended bigint,
    outcome character varying NOT NULL,
    log text NOT NULL
);
CREATE SEQUENCE public.jobs_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.jobs_id_seq OWNED BY public.jobs.id;
CREATE TABLE public.meta (
    key character varying NOT NULL,
    json text NOT NULL
);
CREATE TABLE public.plans (
    id integer NOT NULL,
    issued bigint NOT NULL,
    start bigint NOT NULL,
    "end" bigint NOT NULL,
    state character varying NOT NULL,
    json text NOT NULL
);
CREATE SEQUENCE public.plans_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.plans_id_seq OWNED BY public.plans.id;
CREATE TABLE public.publications (
    id integer NOT NULL,
    setting character varying NOT NULL,
    topic character varying NOT NULL,
    value double precision NOT NULL,
    valid_until bigint NOT NULL,
    made bigint NOT NULL,
    state character varying NOT NULL,
    settled bigint,
    plan_id integer,
    reason character varying NOT NULL
);
CREATE SEQUENCE public.publications_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.publications_id_seq OWNED BY public.publications.id;
CREATE TABLE public.readings (
    variable character varying NOT NULL,
    stamp bigint NOT NULL,
    value double precision NOT NULL,
    flag character varying NOT NULL,
    received bigint NOT NULL
);
CREATE TABLE public.refusals (
    reason character varying NOT NULL,
    n bigint NOT NULL,
    last bigint NOT NULL,
    topic character varying NOT NULL,
    detail character varying NOT NULL
);
ALTER TABLE ONLY public.calibrations ALTER COLUMN id SET DEFAULT nextval('public.calibrations_id_seq'::regclass);
ALTER TABLE ONLY public.fronts ALTER COLUMN id SET DEFAULT nextval('public.fronts_id_seq'::regclass);
ALTER TABLE ONLY public.jobs ALTER COLUMN id SET DEFAULT nextval('public.jobs_id_seq'::regclass);
ALTER TABLE ONLY public.plans ALTER COLUMN id SET DEFAULT nextval('public.plans_id_seq'::regclass);
ALTER TABLE ONLY public.publications ALTER COLUMN id SET DEFAULT nextval('public.publications_id_seq'::regclass);
INSERT INTO public.calibrations VALUES (1, 1767571200000, 'accepted', '{"parameters": {"infiltration": 1.2}}');
INSERT INTO public.forecasts VALUES ('outdoor_air_temperature', 1767571200000, 1767571200000, 1);
INSERT INTO public.forecasts VALUES ('outdoor_air_temperature', 1767574800000, 1767571200000, 2);
INSERT INTO public.fronts VALUES (1, 1767571200000, 'accepted', '{"hypervolume": 0.5}');
INSERT INTO public.jobs VALUES (1, 'plan', 1767571200000, 1767574800000, 'done', 'chosen');
INSERT INTO public.jobs VALUES (2, 'calibration', 1767574800000, NULL, 'running', '');
INSERT INTO public.meta VALUES ('schema_version', '1');
INSERT INTO public.meta VALUES ('own_profile', '{"a": [1, 2]}');
INSERT INTO public.plans VALUES (1, 1767571200000, 1767571200000, 1767582000000, 'accepted', '{"origin": "optimised", "issued": "2026-01-05T00:00:00+00:00", "start": "2026-01-05T00:00:00+00:00", "step_min": 60, "settings": {"heating_setpoint": [20.0, 20.0, 20.0], "cooling_setpoint": [25.0, 25.0, 25.0]}, "meta": {}}');
INSERT INTO public.publications VALUES (1, 'heating_setpoint', 'o/h', 20, 1767574800000, 1767571200000, 'acknowledged', 1767574800000, 1, '');
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767571200000, 20, 'good', 1767571205000);
INSERT INTO public.readings VALUES ('zone_co2', 1767571200000, 20, 'good', 1767571205000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767572100000, 20.125, 'good', 1767572105000);
INSERT INTO public.readings VALUES ('zone_co2', 1767572100000, 20.125, 'good', 1767572105000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767573000000, 20.25, 'good', 1767573005000);
INSERT INTO public.readings VALUES ('zone_co2', 1767573000000, 20.25, 'good', 1767573005000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767573900000, 20.375, 'good', 1767573905000);
INSERT INTO public.readings VALUES ('zone_co2', 1767573900000, 20.375, 'good', 1767573905000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767574800000, 20.5, 'good', 1767574805000);
INSERT INTO public.readings VALUES ('zone_co2', 1767574800000, 20.5, 'good', 1767574805000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767575700000, 20.625, 'good', 1767575705000);
INSERT INTO public.readings VALUES ('zone_co2', 1767575700000, 20.625, 'good', 1767575705000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767576600000, 20.75, 'good', 1767576605000);
INSERT INTO public.readings VALUES ('zone_co2', 1767576600000, 20.75, 'good', 1767576605000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767577500000, 20.875, 'good', 1767577505000);
INSERT INTO public.readings VALUES ('zone_co2', 1767577500000, 20.875, 'good', 1767577505000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767578400000, 21, 'good', 1767578405000);
INSERT INTO public.readings VALUES ('zone_co2', 1767578400000, 21, 'good', 1767578405000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767579300000, 21.125, 'good', 1767579305000);
INSERT INTO public.readings VALUES ('zone_co2', 1767579300000, 21.125, 'good', 1767579305000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767580200000, 21.25, 'good', 1767580205000);
INSERT INTO public.readings VALUES ('zone_co2', 1767580200000, 21.25, 'good', 1767580205000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767581100000, 21.375, 'good', 1767581105000);
INSERT INTO public.readings VALUES ('zone_co2', 1767581100000, 21.375, 'good', 1767581105000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767582000000, 21.5, 'good', 1767582005000);
INSERT INTO public.readings VALUES ('zone_co2', 1767582000000, 21.5, 'good', 1767582005000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767582900000, 21.625, 'good', 1767582905000);
INSERT INTO public.readings VALUES ('zone_co2', 1767582900000, 21.625, 'good', 1767582905000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767583800000, 21.75, 'good', 1767583805000);
INSERT INTO public.readings VALUES ('zone_co2', 1767583800000, 21.75, 'good', 1767583805000);
INSERT INTO public.readings VALUES ('zone_air_temperature', 1767584700000, 21.875, 'good', 1767584705000);
INSERT INTO public.readings VALUES ('zone_co2', 1767584700000, 21.875, 'good', 1767584705000);
INSERT INTO public.refusals VALUES ('unit', 1, 1767584705000, 't/1', '''furlong''');
SELECT pg_catalog.setval('public.calibrations_id_seq', 1, true);
SELECT pg_catalog.setval('public.fronts_id_seq', 1, true);
SELECT pg_catalog.setval('public.jobs_id_seq', 2, true);
SELECT pg_catalog.setval('public.plans_id_seq', 1, true);
SELECT pg_catalog.setval('public.publications_id_seq', 1, true);
ALTER TABLE ONLY public.calibrations
    ADD CONSTRAINT calibrations_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.forecasts
    ADD CONSTRAINT forecasts_pkey PRIMARY KEY (variable, stamp, issued);
ALTER TABLE ONLY public.fronts
    ADD CONSTRAINT fronts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.plans
    ADD CONSTRAINT plans_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.publications
    ADD CONSTRAINT publications_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.readings
    ADD CONSTRAINT readings_pkey PRIMARY KEY (variable, stamp);
ALTER TABLE ONLY public.refusals
    ADD CONSTRAINT refusals_pkey PRIMARY KEY (reason);
CREATE INDEX ix_calibrations_made ON public.calibrations USING btree (made);
CREATE INDEX ix_fronts_made ON public.fronts USING btree (made);
CREATE INDEX ix_plans_issued ON public.plans USING btree (issued);
CREATE UNIQUE INDEX one_running_per_kind ON public.jobs USING btree (kind) WHERE ((outcome)::text = 'running'::text);
CREATE INDEX publications_by_setting ON public.publications USING btree (setting, id);
