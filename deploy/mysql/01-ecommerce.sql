-- The database of the main job. Foreign keys without cascades: before MySQL 9.6 cascaded rows are not in the binlog, and where they are
-- Debezium 3.6.1 passes over them.
CREATE DATABASE IF NOT EXISTS ecommerce CHARACTER SET utf8mb4;

CREATE TABLE IF NOT EXISTS ecommerce.customers (
  customer_id INT PRIMARY KEY AUTO_INCREMENT,
  name VARCHAR(100),
  email VARCHAR(100) UNIQUE,
  address TEXT,
  created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE IF NOT EXISTS ecommerce.orders (
  order_id INT PRIMARY KEY AUTO_INCREMENT,
  customer_id INT,
  total_amount DECIMAL(10, 2),
  status VARCHAR(20),
  created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  FOREIGN KEY (customer_id) REFERENCES ecommerce.customers (customer_id)
);

CREATE TABLE IF NOT EXISTS ecommerce.shipping_info (
  shipping_id INT PRIMARY KEY AUTO_INCREMENT,
  order_id INT,
  shipping_address TEXT,
  shipping_method VARCHAR(50),
  estimated_delivery DATE,
  status VARCHAR(20),
  FOREIGN KEY (order_id) REFERENCES ecommerce.orders (order_id)
);
