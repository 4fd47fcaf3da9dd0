BEGIN TRANSACTION;
CREATE TABLE calibrations (
	id INTEGER NOT NULL, 
	made BIGINT NOT NULL, 
	state VARCHAR NOT NULL, 
	json TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "calibrations" VALUES(1,1767571200000,'accepted','{"parameters": {"infiltration": 1.2}}');
CREATE TABLE forecasts (
	variable VARCHAR NOT NULL, 
	stamp BIGINT NOT NULL, 
	issued BIGINT NOT NULL, 
	value FLOAT NOT NULL, 
	PRIMARY KEY (variable, stamp, issued)
)
 WITHOUT ROWID

;
INSERT INTO "forecasts" VALUES('outdoor_air_temperature',1767571200000,1767571200000,1.0);
INSERT INTO "forecasts" VALUES('outdoor_air_temperature',1767574800000,1767571200000,2.0);
CREATE TABLE fronts (
	id INTEGER NOT NULL, 
	made BIGINT NOT NULL, 
	state VARCHAR NOT NULL, 
	json TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "fronts" VALUES(1,1767571200000,'accepted','{"hypervolume": 0.5}');
CREATE TABLE jobs (
	id INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	started BIGINT NOT NULL, 
	ended BIGINT, 
	outcome VARCHAR NOT NULL, 
	log TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "jobs" VALUES(1,'plan',1767571200000,1767574800000,'done','chosen');
INSERT INTO "jobs" VALUES(2,'calibration',1767574800000,NULL,'running','');
CREATE TABLE meta (
	"key" VARCHAR NOT NULL, 
	json TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema_version','1');
INSERT INTO "meta" VALUES('own_profile','{"a": [1, 2]}');
CREATE TABLE plans (
	id INTEGER NOT NULL, 
	issued BIGINT NOT NULL, 
	start BIGINT NOT NULL, 
	"end" BIGINT NOT NULL, 
	state VARCHAR NOT NULL, 
	json TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "plans" VALUES(1,1767571200000,1767571200000,1767582000000,'accepted','{"origin": "optimised", "issued": "2026-01-05T00:00:00+00:00", "start": "2026-01-05T00:00:00+00:00", "step_min": 60, "settings": {"heating_setpoint": [20.0, 20.0, 20.0], "cooling_setpoint": [25.0, 25.0, 25.0]}, "meta": {}}');
CREATE TABLE publications (
	id INTEGER NOT NULL, 
	setting VARCHAR NOT NULL, 
	topic VARCHAR NOT NULL, 
	value FLOAT NOT NULL, 
	valid_until BIGINT NOT NULL, 
	made BIGINT NOT NULL, 
	state VARCHAR NOT NULL, 
	settled BIGINT, 
	plan_id INTEGER, 
	reason VARCHAR NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "publications" VALUES(1,'heating_setpoint','o/h',20.0,1767574800000,1767571200000,'acknowledged',1767574800000,1,'');
CREATE TABLE readings (
	variable VARCHAR NOT NULL, 
	stamp BIGINT NOT NULL, 
	value FLOAT NOT NULL, 
	flag VARCHAR NOT NULL, 
	received BIGINT NOT NULL, 
	PRIMARY KEY (variable, stamp)
)
 WITHOUT ROWID

;
INSERT INTO "readings" VALUES('zone_air_temperature',1767571200000,20.0,'good',1767571205000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767572100000,20.125,'good',1767572105000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767573000000,20.25,'good',1767573005000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767573900000,20.375,'good',1767573905000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767574800000,20.5,'good',1767574805000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767575700000,20.625,'good',1767575705000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767576600000,20.75,'good',1767576605000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767577500000,20.875,'good',1767577505000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767578400000,21.0,'good',1767578405000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767579300000,21.125,'good',1767579305000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767580200000,21.25,'good',1767580205000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767581100000,21.375,'good',1767581105000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767582000000,21.5,'good',1767582005000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767582900000,21.625,'good',1767582905000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767583800000,21.75,'good',1767583805000);
INSERT INTO "readings" VALUES('zone_air_temperature',1767584700000,21.875,'good',1767584705000);
INSERT INTO "readings" VALUES('zone_co2',1767571200000,20.0,'good',1767571205000);
INSERT INTO "readings" VALUES('zone_co2',1767572100000,20.125,'good',1767572105000);
INSERT INTO "readings" VALUES('zone_co2',1767573000000,20.25,'good',1767573005000);
INSERT INTO "readings" VALUES('zone_co2',1767573900000,20.375,'good',1767573905000);
INSERT INTO "readings" VALUES('zone_co2',1767574800000,20.5,'good',1767574805000);
INSERT INTO "readings" VALUES('zone_co2',1767575700000,20.625,'good',1767575705000);
INSERT INTO "readings" VALUES('zone_co2',1767576600000,20.75,'good',1767576605000);
INSERT INTO "readings" VALUES('zone_co2',1767577500000,20.875,'good',1767577505000);
INSERT INTO "readings" VALUES('zone_co2',1767578400000,21.0,'good',1767578405000);
INSERT INTO "readings" VALUES('zone_co2',1767579300000,21.125,'good',1767579305000);
INSERT INTO "readings" VALUES('zone_co2',1767580200000,21.25,'good',1767580205000);
INSERT INTO "readings" VALUES('zone_co2',1767581100000,21.375,'good',1767581105000);
INSERT INTO "readings" VALUES('zone_co2',1767582000000,21.5,'good',1767582005000);
INSERT INTO "readings" VALUES('zone_co2',1767582900000,21.625,'good',1767582905000);
INSERT INTO "readings" VALUES('zone_co2',1767583800000,21.75,'good',1767583805000);
INSERT INTO "readings" VALUES('zone_co2',1767584700000,21.875,'good',1767584705000);
CREATE TABLE refusals (
	reason VARCHAR NOT NULL, 
	n BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	topic VARCHAR NOT NULL, 
	detail VARCHAR NOT NULL, 
	PRIMARY KEY (reason)
);
INSERT INTO "refusals" VALUES('unit',1,1767584705000,'t/1','''furlong''');
CREATE INDEX ix_plans_issued ON plans (issued);
CREATE INDEX ix_calibrations_made ON calibrations (made);
CREATE INDEX ix_fronts_made ON fronts (made);
CREATE UNIQUE INDEX one_running_per_kind ON jobs (kind) WHERE outcome = 'running';
CREATE INDEX publications_by_setting ON publications (setting, id);
COMMIT;
