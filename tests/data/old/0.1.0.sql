BEGIN TRANSACTION;
CREATE TABLE classes (
	dataset_id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	position INTEGER NOT NULL, 
	PRIMARY KEY (dataset_id, name), 
	FOREIGN KEY(dataset_id) REFERENCES datasets (id)
);
INSERT INTO "classes" VALUES(1,'green',0);
INSERT INTO "classes" VALUES(1,'red',1);
CREATE TABLE datasets (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	created_at VARCHAR NOT NULL, 
	splits_given BOOLEAN NOT NULL, 
	deleted_at VARCHAR, 
	PRIMARY KEY (id)
);
INSERT INTO "datasets" VALUES(1,'squares','2026-11-28T21:17:07.108+00:00',0,NULL);
CREATE TABLE images (
	dataset_id INTEGER NOT NULL, 
	id VARCHAR(16) NOT NULL, 
	ext VARCHAR NOT NULL, 
	width INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	channels INTEGER NOT NULL, 
	size_bytes INTEGER NOT NULL, 
	split VARCHAR NOT NULL, 
	source VARCHAR NOT NULL, 
	added_at VARCHAR NOT NULL, 
	thumb_offset BIGINT NOT NULL, 
	thumb_size INTEGER NOT NULL, 
	label VARCHAR, 
	label_seq INTEGER NOT NULL, 
	PRIMARY KEY (dataset_id, id), 
	FOREIGN KEY(dataset_id) REFERENCES datasets (id)
);
INSERT INTO "images" VALUES(1,'7c188b865ff9ac95','png',12,12,3,512,'train','green/green-0.png','2026-11-28T21:17:13.794+00:00',0,512,'green',1);
INSERT INTO "images" VALUES(1,'112e028d9986532f','png',12,12,3,512,'train','green/green-1.png','2026-11-28T21:17:13.794+00:00',512,512,'green',2);
INSERT INTO "images" VALUES(1,'bd78d2e0708d1179','png',12,12,3,512,'train','green/green-2.png','2026-11-28T21:17:13.794+00:00',1024,512,'green',3);
INSERT INTO "images" VALUES(1,'0595a3e72457fe45','png',12,12,3,512,'test','red/red-0.png','2026-11-28T21:17:13.794+00:00',1536,512,'green',7);
INSERT INTO "images" VALUES(1,'b91d97b3711ecf8b','png',12,12,3,512,'train','red/red-1.png','2026-11-28T21:17:13.794+00:00',2048,512,NULL,8);
INSERT INTO "images" VALUES(1,'511bd0bd8f0b3b18','png',12,12,3,512,'test','red/red-2.png','2026-11-28T21:17:13.794+00:00',2560,512,'red',6);
CREATE TABLE label_events (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	dataset_id INTEGER NOT NULL, 
	image_id VARCHAR(16) NOT NULL, 
	label VARCHAR, 
	source VARCHAR NOT NULL, 
	"by" VARCHAR NOT NULL, 
	at VARCHAR NOT NULL, 
	note VARCHAR NOT NULL, 
	previous VARCHAR, 
	operation VARCHAR, 
	UNIQUE (dataset_id, image_id, operation)
);
INSERT INTO "label_events" VALUES(1,1,'7c188b865ff9ac95','green','import','ann','2026-11-28T21:17:13.838+00:00','',NULL,NULL);
INSERT INTO "label_events" VALUES(2,1,'112e028d9986532f','green','import','ann','2026-11-28T21:17:13.838+00:00','',NULL,NULL);
INSERT INTO "label_events" VALUES(3,1,'bd78d2e0708d1179','green','import','ann','2026-11-28T21:17:13.838+00:00','',NULL,NULL);
INSERT INTO "label_events" VALUES(4,1,'0595a3e72457fe45','red','import','ann','2026-11-28T21:17:13.838+00:00','',NULL,NULL);
INSERT INTO "label_events" VALUES(5,1,'b91d97b3711ecf8b','red','import','ann','2026-11-28T21:17:13.838+00:00','',NULL,NULL);
INSERT INTO "label_events" VALUES(6,1,'511bd0bd8f0b3b18','red','import','ann','2026-11-28T21:17:13.838+00:00','',NULL,NULL);
INSERT INTO "label_events" VALUES(7,1,'0595a3e72457fe45','green','manual','bob','2026-11-28T21:17:14.008+00:00','','red','one');
INSERT INTO "label_events" VALUES(8,1,'b91d97b3711ecf8b',NULL,'manual','bob','2026-11-28T21:17:14.034+00:00','','red','two');
CREATE TABLE submissions (
	id INTEGER NOT NULL, 
	dataset_id INTEGER NOT NULL, 
	run_id VARCHAR NOT NULL, 
	image_id VARCHAR(16) NOT NULL, 
	ext VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	"by" VARCHAR NOT NULL, 
	at VARCHAR NOT NULL, 
	predicted VARCHAR NOT NULL, 
	probability FLOAT NOT NULL, 
	probabilities VARCHAR NOT NULL, 
	verdict VARCHAR, 
	label VARCHAR, 
	decided_by VARCHAR, 
	decided_at VARCHAR, 
	PRIMARY KEY (id), 
	FOREIGN KEY(dataset_id) REFERENCES datasets (id)
);
INSERT INTO "submissions" VALUES(1,1,'20260101-000000-squares','red-x00000000000','png','red-x.png','dan','2026-11-28T21:17:14.049+00:00','red',0.75,'{"red": 0.25, "green": 0.75}',NULL,NULL,NULL,NULL);
INSERT INTO "submissions" VALUES(2,1,'20260101-000000-squares','green-x000000000','png','green-x.png','dan','2026-11-28T21:17:14.091+00:00','green',0.75,'{"red": 0.25, "green": 0.75}','rejected',NULL,'ann','2026-11-28T21:17:14.119+00:00');
CREATE UNIQUE INDEX live_name ON datasets (name) WHERE deleted_at IS NULL;
CREATE INDEX by_label ON images (dataset_id, split, label);
CREATE INDEX by_time ON images (dataset_id, added_at, id);
CREATE INDEX queue ON submissions (dataset_id, verdict);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('label_events',8);
COMMIT;
